"""The labelling page: one point for the head, four visibilities, the past frames beside; used by `serve`.

Names and choices here are the contract between the page, the pre-annotations and what `pull` understands.
"""

import xml.etree.ElementTree as ElementTree

from shuttlelib.labels import LabelError
from shuttlelib.studio_tasks import IMAGE, LABEL, POINT, VISIBILITY

CHOICES = ("visible", "occluded", "out of frame", "not in play")  # hotkeys 1 to 4; the first has a point
PAST = 3

_PAST = """
      <Header size="6" value="{looks} before"/>
      <Image name="past{n}" value="$past_{n}" zoom="false" zoomControl="false" rotateControl="false"/>"""
_CHOICE = '\n    <Choice value="{value}" hotkey="{key}"/>'

LABEL_CONFIG = f"""<View>
  <Style>
    .road {{ display: flex; gap: 10px; align-items: flex-start; }}
    .now {{ flex: 3 1 0; min-width: 0; }}
    .past {{ flex: 1 1 0; min-width: 0; }}
  </Style>
  <Header size="5" value="$clip, frame $frame ($why)"/>
  <Choices name="{VISIBILITY}" toName="{IMAGE}" choice="single-radio" required="true" showInline="true"
           requiredMessage="Say whether the shuttle is visible: keys 1 to {len(CHOICES)}">{
    "".join(_CHOICE.format(value=value, key=key) for key, value in enumerate(CHOICES, start=1))
}
  </Choices>
  <View className="road">
    <View className="now">
      <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true" brightnessControl="true"
             contrastControl="true"/>
      <KeyPointLabels name="{POINT}" toName="{IMAGE}" strokeWidth="3" opacity="0.9">
        <Label value="{LABEL}" hotkey="s" selected="true" maxUsages="1" background="#ff4d00"/>
      </KeyPointLabels>
    </View>
    <View className="past">{
    "".join(_PAST.format(n=n, looks="1 look" if n == 1 else f"{n} looks") for n in range(1, PAST + 1))
}
    </View>
  </View>
</View>
"""

# Label Studio takes files only into a project of one picture a task: an empty one beside it holds them.
UPLOAD_CONFIG = f'<View><Image name="{IMAGE}" value="$image"/></View>'


def check_config(config: str, project: str) -> None:
    """Refuse a project whose page is not one that `pull` understands.

    Args:
        config: the project's label configuration, as the server has it.
        project: its name in messages.

    Raises:
        LabelError: another tool version (or a person) made or changed the page; names what is different.
    """
    fix = "pull it with the version of shuttlelib that made it, or export it and use `shuttle data import`"
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise LabelError(f"{project}: its labelling page is not XML ({error}); {fix}") from error
    names = {tag.get("name", ""): tag for tag in root.iter()}
    for name, kind in ((IMAGE, "Image"), (POINT, "KeyPointLabels"), (VISIBILITY, "Choices")):
        if name not in names or names[name].tag != kind:
            raise LabelError(f"{project}: its labelling page has no {kind} named {name!r}; {fix}")
    found = [choice.get("value", "") for choice in names[VISIBILITY].iter("Choice")]
    strange = [choice for choice in found if choice not in CHOICES]
    if strange:
        raise LabelError(
            f"{project}: its labelling page offers the visibility {strange[0]!r}, "
            f"known are {', '.join(CHOICES)}; {fix}"
        )
