import json

import pytest

from shuttlelib import overrides, versions
from shuttlelib.errors import UsageError
from shuttlelib.spec import Spec, check


@pytest.mark.parametrize("name", versions.names())
def test_every_row_resolves_and_survives_json(name):
    spec = versions.resolve(name)
    assert spec.name == name
    assert spec.stage in (1, 2)
    assert versions.ROWS[name]["notes"], "without notes of its own a row would have its parent's"
    assert not spec.parent or spec.parent in versions.ROWS
    assert Spec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


def test_overrides_win_over_the_row():
    assert versions.resolve("stage2_v5", pretrained=False).pretrained is False


def test_unknown_name_lists_the_rows():
    with pytest.raises(UsageError, match=r"stage9_v1.*stage1_v5"):
        versions.resolve("stage9_v1")


def test_diff_names_only_what_differs():
    changed = versions.diff("stage2_v5", "stage2_v8")
    assert changed["fusion"] == ("late", "early")
    assert "stage" not in changed
    assert "name" not in changed
    assert versions.diff("stage1_v5", "stage1_v5") == {}


def test_the_lineage_holds_the_eleven_historic_rows_and_their_followers_in_order():
    lineage = versions.lineage()
    stages = [[name for name in lineage if versions.resolve(name).stage == stage] for stage in (1, 2)]
    assert lineage == [*stages[0], *stages[1]]
    assert stages[0][:5] == [f"stage1_v{n}" for n in range(1, 6)]
    assert stages[1][:8] == [f"stage2_v{n}" for n in range(1, 9)]
    assert set(versions.baselines()) == set(versions.names()) - set(lineage) == {"unet_3in3", "unet_8in8"}


def test_the_first_of_a_stage_changes_nothing_and_one_idea_is_one_field():
    assert versions.changes("stage1_v1") == {}
    assert versions.changes("stage2_v5") == {"noise": ("constant", "uniform")}
    assert versions.changes("unet_8in8") == {"frames": (3, 8)}


def test_how_a_row_is_trained_may_be_changed_from_a_command_line():
    given = overrides.training_overrides(["lr=1e-3", "poor=0.1", "lr=0.002"])
    assert given == {"lr": 0.002, "poor": 0.1}
    spec = versions.resolve("stage2_v8", **given)
    assert (spec.lr, spec.poor, spec.frames) == (0.002, 0.1, 4)


@pytest.mark.parametrize(
    "text",
    [
        "frames=5",
        "lr",
        "",
        "lr=",
        "poor=-0.1",
        "lr=nan",
        "lr=inf",
        "poor=some",
        "poor=5",
        "rendered_share=30",
    ],
)
def test_what_a_row_is_may_not(text):
    with pytest.raises(UsageError, match=f"--set {text}: "):
        overrides.training_overrides([text])


def test_every_training_field_is_a_number_of_the_spec():
    spec = versions.resolve("stage1_v5").as_dict()
    assert all(isinstance(spec[name], float) for name in overrides.TRAINING_FIELDS)


@pytest.mark.parametrize(("name", "scale"), [("stage2_v10", 0.0), ("stage2_v5", 1.2), ("stage1_v5", 1.2)])
def test_crops_of_training_are_wider_only_where_a_network_is_the_same_at_any_size(name, scale):
    with pytest.raises(UsageError, match=f"version {name}: crop_scale {scale} does not fit"):
        check(versions.resolve(name, crop_scale=scale))
    assert versions.resolve("stage2_v10", crop_scale=1.2).in_training.input_hw == (192, 192)
