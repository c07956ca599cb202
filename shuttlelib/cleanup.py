"""Label cleanup: finds what a person or a tool got wrong in a clip's labels; between importing and training.

Every anomaly is a small function of `anomalies` and a row of the table `CHECKS`. What it finds is
flagged in the label table and listed in an audit table; the labels themselves change only where the
repair is certain: an exact duplicate and a row beyond the video's end are dropped, the order is
restored, annotators who agree are averaged. Rows whose visibility or place cannot be believed keep
their values and a flag of `labels.UNUSABLE`, which leaves them out of training until someone labels the
frame again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile

import numpy as np
import pandas as pd

from shuttlelib import anomalies, clips, labels, splits
from shuttlelib.files import atomic_write
from shuttlelib.labels import ClipInfo, LabelError
from shuttlelib.runs import REVISION

# What was found nowhere: the columns of an audit and their kinds
NO_AUDIT = pd.DataFrame(columns=["clip", "frame", "check", "value", "action"]).astype(
    {"frame": np.int64, "value": np.float64}
)


@dataclass(frozen=True)
class Check:
    """One anomaly.

    Attributes:
        name: the flag.
        find: (table, info) to the value of each row found, indexed like the table.
        value: what the value says.
        action: what is done about it: "flagged", "dropped", "sorted" or "merged".
    """

    name: str
    find: Callable[[pd.DataFrame, ClipInfo], pd.Series]
    value: str
    action: str = "flagged"


def clean(table: pd.DataFrame, info: ClipInfo) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Flag, repair where certain, and list every anomaly of one clip's labels.

    Args:
        table: canonical table of one clip, as imported.
        info: the clip's facts; a frame count of 0 means unknown.

    Returns:
        The cleaned table and the audit: one row an anomaly with `clip, frame, check, value, action`
        (what `value` means, and its unit, stands in `CHECKS`). Cleaning again changes nothing.

    Raises:
        LabelError: the table is not canonical, or holds several clips.
    """
    table = labels.validate(table, "label table")
    names = table["clip"].unique()
    if len(names) > 1:
        raise LabelError(
            f"label table: column 'clip' holds {', '.join(map(repr, names))}: clean one clip at a time"
        )
    audits = [NO_AUDIT]
    for check in CHECKS:
        found = check.find(table, info)
        if found.empty:
            continue
        rows = table.loc[found.index, ["clip", "frame"]]
        audits.append(rows.assign(check=check.name, value=found.astype(np.float64), action=check.action))
        labels.add_flag(table, found.index, check.name)
        table = _REPAIRS[check.action](table, found.index).reset_index(drop=True)
    return table, pd.concat(audits, ignore_index=True)


def clean_dataset(data_dir: str | Path, out_dir: str | Path) -> pd.DataFrame:
    """Clean every clip of a data folder into another (or the same) one.

    Writes the cleaned tables, links to the videos, `splits.csv`, and the audit as `cleanup/audit.csv`. A clip
    that the other folder has already keeps its venue and split there and the labels that were pulled there, a
    venue its split. Where the folder is the same, the file keeps what was dropped, merged or sorted before.

    Returns:
        The audit of all clips, as found now.

    Raises:
        LabelError: as `clips.load_dataset`, and as `clips.over_stored`.
        VideoError: as `clips.require_labelled`.
    """
    cleaned, audits, places = [], [], splits.read(out_dir)
    divided = dict(places.values())
    in_place = Path(data_dir).resolve() == Path(out_dir).resolve()
    for clip in clips.load_dataset(data_dir, raw=True):
        clips.require_labelled(clip)
        if not in_place:
            clip = clips.over_stored(clip, out_dir)
        table, audit = clean(clip.table, clip.info)
        venue, part = places.get(clip.name, (clip.venue, divided.get(clip.venue, clip.split)))
        cleaned.append(replace(clip, table=table, venue=venue, split=part))
        audits.append(audit)
    if (Path(data_dir) / REVISION).is_file() and not in_place:
        with atomic_write(Path(out_dir) / REVISION) as temp:  # the copy descends from that commit
            copyfile(Path(data_dir) / REVISION, temp)
    whole = pd.concat(audits, ignore_index=True)
    path = Path(out_dir) / "cleanup" / "audit.csv"
    record = _with_earlier(whole, path) if in_place and path.is_file() else whole
    with atomic_write(path) as temp:
        record.to_csv(temp, index=False)
    splits.write(out_dir, places | {clip.name: (clip.venue, clip.split) for clip in cleaned})
    for clip in cleaned:  # last: in place, the record of what they lose is written by now
        clips.store(clip, out_dir)
    return whole


def _with_earlier(audit: pd.DataFrame, path: Path) -> pd.DataFrame:
    """An audit after the rows of an earlier one that tell of what no table shows any more."""
    before, key = pd.read_csv(path, dtype=NO_AUDIT.dtypes.to_dict()), ["clip", "frame", "check"]
    again = before.set_index(key).index.isin(audit.set_index(key).index)
    gone = before[(before["action"] != "flagged") & ~again]
    return pd.concat([gone, audit], ignore_index=True)


# The order matters: rows are put in order and repeats removed before motion is looked at.
CHECKS: tuple[Check, ...] = (
    Check("out_of_order", anomalies.out_of_order, "frames behind", "sorted"),
    Check("duplicate", anomalies.duplicate, "repeats", "dropped"),
    Check("beyond_end", anomalies.beyond_end, "frames past the end", "dropped"),
    Check("annotators_agree", anomalies.annotators_agree, "greatest distance, px", "merged"),
    Check("annotators_disagree", anomalies.annotators_disagree, "greatest distance, px; inf: visible or not"),
    Check("duplicate_conflict", anomalies.duplicate_conflict, "greatest distance, px; inf: visible or not"),
    Check("zero_point", anomalies.zero_point, "distance from (0, 0), px"),
    Check("no_coordinates", anomalies.no_coordinates, "nothing"),
    Check("out_of_frame", anomalies.out_of_frame, "px outside"),
    Check("at_border", anomalies.at_border, "px inside"),
    Check("missing_frames", anomalies.missing_frames, "unlabelled frames"),
    Check("too_fast", anomalies.too_fast, "step, px"),
    Check("spike", anomalies.spike, "shorter of the two steps, px"),
    Check("hop", anomalies.hop, "step, px"),
    Check("static_run", anomalies.static_run, "frames"),
    Check("flicker", anomalies.flicker, "frames"),
)


def _merge(table: pd.DataFrame, rows: pd.Index) -> pd.DataFrame:
    """One row for each frame of `rows`: the mean of the points."""
    group = table.loc[rows].groupby("frame")
    table.loc[rows, ["x_px", "y_px"]] = group[["x_px", "y_px"]].transform("mean")
    table.loc[rows, "flags"] = [
        ";".join(flag for flag in flags.split(";") if not flag.startswith("annotator="))
        for flags in table.loc[rows, "flags"]
    ]
    return table.drop(rows.difference(group.head(1).index))


_REPAIRS: dict[str, Callable[[pd.DataFrame, pd.Index], pd.DataFrame]] = {
    "flagged": lambda table, rows: table,
    "dropped": lambda table, rows: table.drop(rows),
    "sorted": lambda table, rows: table.sort_values("frame", kind="stable"),
    "merged": _merge,
}
