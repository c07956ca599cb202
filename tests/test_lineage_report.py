import json

import pandas as pd
import pytest
from test_charts_lineage import ROWS

from shuttlelib.lineage import training
from shuttlelib.lineage.claims import Claim
from shuttlelib.lineage.comparison import Looks
from shuttlelib.lineage.training import Budget
from shuttlelib.report import lineage, markdown

MEASURED = {
    "changed": {"neck": ["fpn", "bifpn"]},
    "parameters": 1_500_000,
    "start": "scratch (ImageNet weights of x could not be fetched)",
    "batch": 16,
    "steps": 300,
    "seconds": 60.0,
    "samples_per_s": 80.0,
    "train_loss": 0.1,
    "val_loss": 0.5,
    "loss_ratio": 5.0,
    "placed_share": 0.4,
    "median_px": 3.0,
    "mean_px": 9.0,
    "fp2_share": None,
    "free_accuracy": 0.61,
    "free_accuracy_interval": [0.5, 0.7],
    "time_to_accuracy_s": {"0.5": 30.0, "0.6": None, "0.7": None, "0.8": None, "0.85": None, "0.9": None},
    "history": {"step": [300], "seconds": [60.0], "accuracy": [0.5], "median_px": [3.0]},
}


@pytest.fixture
def report():
    rows = {name: row if "error" in row else {**row, **MEASURED} for name, row in ROWS.items()}
    rows["c"] = {**rows["c"], "changed": {}}
    rows["a"]["latency_by_fusion_ms"] = {"late": 40.0, "early": 12.5}
    claims = [
        Claim("x is so", "told", "how", "2.00 times (1.50 to 3.00)", "holds", 2.0, (1.5, 3.0)),
        Claim("y is so", "told", "how", "0.50 times (0.40 to 0.60)", "does not hold here", 0.5, (0.4, 0.6)),
    ]
    facts = {"budget": "300 steps", "seed": 0, "data_hash": "abc", "hardware": "a card"}
    facts["trained_on"] = "another card"
    facts |= {"clips": {"train": 4, "val": 2}, "free_running_with": ["stage1_a", "stage2_b"]}
    return {"facts": facts, "rows": rows, "claims": [claim.as_dict() for claim in claims]}


def test_the_page_says_what_contradicts_the_story_what_failed_and_what_started_from_scratch(report):
    page = markdown.render(lineage.page(report))
    assert "Our measurement contradicts the story here: y is so (0.50 times" in page
    assert page.index("contradicts") < page.index("agrees")
    assert "- c: out of memory" in page
    assert "From scratch, though the row starts from ImageNet weights: a, b, d, u" in page
    assert "| version | parent | from | loss, training | loss, val | mean error, px of 512x288 |" in page
    row = "| b | a | scratch | 0.1000 | 0.5000 | 9.00 | 0.700 (0.600 to 0.800) | 0.400 | 3.00 | – |"
    assert f"{row} 0.610 (0.500 to 0.700) | – | 5.0 | 1,500,000 | 5.00 |" in page
    assert "| a | 300 | 16 | 60 | 80 | 30 |  |" in page
    assert "| x is so | told | how | 2.00 times (1.50 to 3.00) | holds |" in page
    assert "- b: an idea. From a: neck fpn → bifpn" in page
    assert "300 steps, seed 0, 4 training and 2 val clips (data hash abc), on a card." in page
    assert "accuracy on val samples, on another card;" in page
    assert "40.0 ms with a pass a frame, 12.5 ms with one early-fused pass" in page


def test_the_page_names_the_pair_that_completes_a_row(report):
    assert r"The pair is stage1\_a and stage2\_b." in markdown.render(lineage.page(report))
    report["facts"]["free_running_with"] = []
    assert "The pair is" not in markdown.render(lineage.page(report))


def test_the_page_tells_rows_that_were_timed_on_other_hardware(report):
    for name in ("a", "b"):
        report["rows"][name]["measured_on"] = "a card"
    assert "timed" not in markdown.render(lineage.page(report))
    report["rows"]["u"]["measured_on"] = "a processor"
    told = "so compare them within one. a card: a, b; a processor: u."
    assert told in markdown.render(lineage.page(report))


def test_files_are_written_and_read_back(report, tmp_path):
    lineage.write(report, {}, tmp_path)
    table = pd.read_csv(tmp_path / "lineage.csv", index_col="version")
    assert table.loc["b", "free_accuracy_low"] == 0.5
    assert table.loc["b", "s_to_0.5"] == 30
    assert table.loc["c", "error"] == "out of memory"
    assert json.loads((tmp_path / "lineage.json").read_text()) == json.loads(json.dumps(report))
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert {"family_tree", "accuracy", "free_running", "accuracy_over_time"} <= drawn
    text = (tmp_path / "lineage.md").read_text()
    shown = [part.split(")")[0] for part in text.split("](")[1:]]
    assert len(shown) == 6
    assert all((tmp_path / path).is_file() for path in shown)


@pytest.fixture
def done(monkeypatch):
    """The rows that were trained and those that were measured, with both replaced by notes of them."""
    trained, measured = [], []

    def attempt(spec, *_):
        if trained == ["stage1_v1", "stage1_v2"]:
            trained.append("a stop")
            raise KeyboardInterrupt
        trained.append(spec.name)
        return {"start": "scratch"}

    def measure_rows(results, *_):
        measured.extend(name for name, result in results.items() if "error" not in result)
        good = {**ROWS["a"], **MEASURED, "parent": ""}
        return {
            name: {**good, **({"error": result["error"]} if "error" in result else {})}
            for name, result in results.items()
        }, {}

    monkeypatch.setattr(training, "_attempt", attempt)
    monkeypatch.setattr(training, "_line", str)
    monkeypatch.setattr(lineage.comparison, "measure_rows", measure_rows)
    return trained, measured


def test_rows_before_a_stop_are_reported_and_those_without_time_named(done, tmp_path):
    trained, measured = done
    names = ["stage1_v1", "stage1_v2", "stage1_v3", "stage1_v4"]

    def compare(minutes_left):
        left = iter([True] * minutes_left)
        budget, looks = Budget(steps=1), Looks(clips=0)
        return lineage.compare(
            names,
            [],
            tmp_path,
            tmp_path,
            budget,
            looks=looks,
            say=str,
            time_left=lambda: next(left, False),
        )

    with pytest.raises(KeyboardInterrupt):
        compare(4)
    report = json.loads((tmp_path / "lineage.json").read_text())
    assert list(report["rows"]) == ["stage1_v1", "stage1_v2"]
    assert (tmp_path / "lineage.md").is_file()
    report = compare(1)
    assert trained == ["stage1_v1", "stage1_v2", "a stop", "stage1_v3"]
    assert measured == ["stage1_v1", "stage1_v2", "stage1_v1", "stage1_v2", "stage1_v3"]
    assert json.loads((tmp_path / "lineage.json").read_text()) == json.loads(json.dumps(report))
    assert [name for name, row in report["rows"].items() if "error" in row] == ["stage1_v4"]
    assert report["rows"]["stage1_v4"]["error"] == "no time left"
    assert not (tmp_path / "stage1_v4" / "row.json").exists()  # it is tried the next time
