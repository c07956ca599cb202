"""The site from a fabricated run and the shipped models: links, escaping, bytes, errors, and in a browser."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from report_parts import BENCH, make_models, make_runs, summary

from shuttlelib import cli, cli_train, reproduce, runtime
from shuttlelib.report import (
    collect,
    figures,
    markdown,
    measure,
    notebooks,
    pages,
    printing,
    scores,
    site,
    store,
    trainings,
    version_page,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECTIONS = (
    "Card",
    "What it changed",
    "How it learned",
    "Metrics",
    "Error from 1 to 20 px",
    "By venue and by clip",
    "Calibration",
    "Error against speed and shuttle size",
    "Gallery",
    "Speed by backend",
    "How it was made",
)


class Links(HTMLParser):
    """Addresses, ids and scripts of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.to, self.ids, self.scripts = [], set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.to += [values[key] for key in ("href", "src", "xlink:href") if values.get(key)]
        self.ids.add(values.get("id"))
        self.scripts += tag == "script"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models, runs, and the site made of them."""
    root = tmp_path_factory.mktemp("report")
    models = make_models(root / "models")
    runs = make_runs(root / "runs", models)
    found = collect.collect(models, [runs], [runs / "bench.json"])
    site.write(found, root / "site", book=True)
    return root


@pytest.fixture(scope="module")
def shipped(made):
    """The page of the shipped stage-2 version."""
    return (made / "site" / "versions" / f"{runtime.default_pair(made / 'models')[1].name}.html").read_text()


def test_every_link_of_the_site_leads_somewhere(made):
    assert len(list((made / "site").rglob("*.html"))) > 20
    follow(made / "site")


def test_links_lead_to_whatever_a_run_or_a_version_is_called(made, tmp_path):
    models, version = tmp_path / "models", tmp_path / "models" / "stage2_v11.1"
    shutil.copytree(made / "models", models)
    shutil.copytree(models / "stage2_v11", version)
    card = json.loads((version / "version.json").read_text())
    (version / "version.json").write_text(json.dumps({**card, "name": version.name}))
    shutil.copytree(made / "runs" / "mine", tmp_path / "runs" / "night #2 (50%)")
    site.write(collect.collect(models, [tmp_path / "runs"]), tmp_path / "site")
    index = Links((tmp_path / "site" / "index.html").read_text()).to
    assert {"versions/stage2_v11.1.html", "runs/night%20%232%20%2850%25%29/index.html"} <= set(index)
    assert "(versions/stage2_v11.1.md)" in (tmp_path / "site" / "README.md").read_text()
    follow(tmp_path / "site")


def follow(folder):
    """Every link of a site leads somewhere."""
    for page in sorted(folder.rglob("*.html")):
        links = Links(page.read_text())
        for to in links.to:
            parts = urlsplit(to)
            if parts.scheme in ("https", "data"):
                assert parts.scheme != "data" or not to.startswith("data:text")
            elif not parts.path:
                assert unquote(parts.fragment) in links.ids, (page.name, to)
            else:
                assert (page.parent / unquote(parts.path)).is_file(), (page.name, to)


def test_links_of_the_markdown_lead_somewhere(made):
    for page in (made / "site").rglob("*.md"):
        for to in (part.split(")")[0] for part in page.read_text().split("](")[1:]):
            assert to.startswith("https://") or (page.parent / to).is_file(), (page.name, to)


def test_nothing_is_loaded_from_the_network(made):
    for page in (made / "site").rglob("*.html"):
        text = page.read_text()
        assert 'src="http' not in text
        assert "@import" not in text
        assert '<link rel="stylesheet"' not in text


def test_the_page_of_a_shipped_version_has_all_it_should(made, shipped):
    markdown = (made / "site" / "versions" / "stage2_v11.md").read_text()
    for title in SECTIONS:
        assert f"<h2>{title}</h2>" in shipped
        assert f"\n## {title}\n" in markdown
    assert "\n| parameters | 1.42 million |\n" in markdown, "not of its lean twin in the lineage"
    assert "which made these weights" in shipped
    assert "c0ffee" in shipped
    assert "--data rallies" in shipped  # the command, without where it was given
    assert "/home/me" not in shipped
    assert "151.2" in shipped
    assert "no GPU" in shipped


def test_the_index_shows_what_a_version_bought_and_what_failed(made):
    index = (made / "site" / "index.html").read_text()
    assert "▲ +0.200" in index
    assert "failed" in index
    assert 'href="published.html"' in index
    assert 'href="runs/mine/index.html"' in index


def test_hostile_names_are_only_text(made):
    for page in (made / "site").rglob("*.html"):
        assert "<script>alert" not in page.read_text(), page
    for page in (made / "site").rglob("*.md"):
        assert "<script>" not in page.read_text(), page
    assert "&lt;script&gt;alert(1)" in (made / "site" / "versions" / "stage2_v11.html").read_text()


def test_a_notebook_is_shown_without_this_machines_folders(made):
    page = (made / "site" / "runs" / "mine" / "00_look.html").read_text()
    assert str(made) not in page
    assert "mine/data ./shuttlelib" in page
    assert "data:image/" in page
    assert "<h2>Parameters</h2>" in page


def test_what_notebooks_trained_at_the_quick_profile_is_no_result(made):
    found = collect.collect(made / "models", [made / "runs"])
    assert [t["run"] for t in found.versions["stage2_v11"].trainings] == ["training"]
    assert [run.name for run in found.runs] == ["fast", "mine"]


def test_the_same_inputs_give_the_same_bytes(made, tmp_path):
    found = collect.collect(made / "models", [made / "runs"], [made / "runs" / "bench.json"])
    written = site.write(found, tmp_path / "again", book=True)
    for name in written:
        assert (tmp_path / "again" / name).read_bytes() == (made / "site" / name).read_bytes(), name


def test_a_report_takes_away_what_an_earlier_one_left_and_nothing_else(tmp_path):
    site._put(tmp_path, {"a.html": b"a", "runs/b.html": b"b"})
    (tmp_path / "notes.txt").write_text("mine")
    site._put(tmp_path, {"a.html": b"c"})
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.html", "notes.txt", site.MARK}
    assert (tmp_path / "a.html").read_bytes() == b"c"


def test_what_is_kept_beside_the_weights_makes_the_report_without_the_runs(made, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(made / "models", models)
    found = collect.collect(models, [made / "runs"], [made / "runs" / "bench.json"])
    collect.keep(found, models)
    again = collect.collect(models)
    assert again.versions["stage2_v11"].trainings == found.versions["stage2_v11"].trainings
    assert again.versions["stage2_v11"].trainings[0]["made"]["seed"] == 7
    assert (again.lineage, again.speed) == (found.lineage, found.speed)
    assert again.evaluation == found.evaluation


def test_pictures_that_a_later_evaluation_does_not_name_go(made, tmp_path, monkeypatch):
    models = tmp_path / "models"
    shutil.copytree(made / "models", models)
    kept = runtime.default_pair(models)[1] / store.GALLERY
    assert any(kept.iterdir())
    real = {"pair": collect.collect(models).evaluation["pair"], "sets": {}}
    monkeypatch.setattr(measure, "evaluate", lambda *_: (real, {}))
    monkeypatch.setattr(cli_train, "val_clips", lambda option, folder: [])
    command = ["report", "--models", models, "--data", tmp_path, "--out", tmp_path / "site", "--keep"]
    assert cli.run(list(map(str, command))) == 0
    assert not any(kept.iterdir())


def test_speeds_of_other_versions_or_weights_are_left_out_and_said(made, tmp_path):
    models, file = tmp_path / "models", tmp_path / "bench.json"
    shutil.copytree(made / "models", models)
    names = [folder.name for folder in runtime.default_pair(models)]
    whole = ({"stage1": name, "stage2": None} for name in ("unet_3in3", names[0]))
    used = (*whole, dict(zip(("stage1", "stage2"), names)))
    other, first, own = ({**BENCH["rows"][0], "versions": each} for each in used)
    rows = [{**other, "mode": "whole"}, {**first, "mode": "whole"}, own]
    file.write_text(json.dumps({**BENCH, "rows": rows}))
    found = collect.collect(models, [], [file])
    assert [row["versions"] for row in found.speed] == [first["versions"], own["versions"]]
    assert "1 rows of bench files are of other versions" in found.notes[-1]
    collect.keep(found, models)
    assert collect.collect(models).speed == found.speed
    (models / names[0] / "model.safetensors").write_bytes(b"others")
    again = collect.collect(models)
    assert again.speed == []
    assert any("speed is of other weights" in note for note in again.notes)


def test_what_a_reproduced_run_leaves_is_read(made, tmp_path):
    out = tmp_path / "all"
    shutil.copytree(made / "runs" / "lineage", out / "lineage")
    reproduce._act(lambda box: {"stage1_v1": 0.5}, 1.0, out, "lineage")
    assert collect.collect(made / "models", [tmp_path]).lineage["rows"]


def test_runs_of_one_name_have_pages_of_their_own(made, tmp_path):
    for parent in ("a", "b"):
        shutil.copytree(made / "runs" / "mine", tmp_path / parent / "mine")
    found = collect.collect(made / "models", [tmp_path / "a", tmp_path / "b"])
    assert [run.name for run in found.runs] == ["mine", "b-mine"]


def test_stages_are_not_ranked_against_each_other(made):
    found = collect.collect(made / "models", [made / "runs"])
    kinds = {name: judged["accuracy"] for name, judged in pages._chooser(found)["judged"].items()}
    assert kinds["stage2_v1"] == kinds["stage2_v9"] != kinds["stage1_v5"]
    assert kinds["unet_3in3"] not in (kinds["stage1_v5"], kinds["stage2_v9"])
    rows = dict.fromkeys(("stage1_v5", "stage2_v9"))
    for name, value in zip(rows, (0.45, 0.85)):
        rows[name] = replace(found.versions[name], measured={"accuracy": value, "latency_ms": 10 * value})
    found = replace(found, versions={**found.versions, **rows})
    text = markdown.render(pages.comparison(found, pages._chooser(found), *rows))
    (accuracy,) = (line for line in text.splitlines() if line.startswith("| accuracy on samples"))
    (latency,) = (line for line in text.splitlines() if line.startswith("| one look, ms"))
    assert "not comparable" in accuracy
    assert "worse" in latency


def test_an_evaluation_of_other_weights_is_left_out_and_said(made, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(made / "models", models)
    (models / "stage2_v11" / "model.safetensors").write_bytes(b"others")
    found = collect.collect(models)
    assert not found.evaluation
    assert "evaluation is of other weights" in found.notes[0]
    found = replace(found, notes=[*found.notes, "2 rows of bench files are of other versions"])
    assert collect.with_evaluation(found, {"sets": {}}).notes == found.notes[1:]
    (section,) = version_page.results.looked_at(found.versions["stage2_v11"], found)[:1]
    assert "Not measured" in str(section)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("runs/training/history.csv", "a,b\n1,2\n", "history.csv: not a training's history"),
        ("runs/training/metrics.json", "{", "metrics.json: not a JSON object"),
        ("runs/mine/00_look.ipynb", "{}", "00_look.ipynb: no notebook"),
        ("runs/lineage/lineage.json", '{"a": 1}', "lineage.json: no comparison of the lineage"),
        (
            "runs/bench.json",
            '{"schema": "x"}',
            "bench.json: is no result of `shuttle bench`: its schema is x",
        ),
        ("models/stage1_v5/metrics.json", "[1]", "metrics.json: not a JSON object"),
        ("models/stage2_v11/report.json", "nothing", "report.json: not a JSON object"),
        ("models/stage2_v11/metrics.json", '{"free_running": {"smart": {}}}', "metrics.json: "),
    ],
)
def test_a_damaged_file_is_named(made, tmp_path, capsys, file, text, says):
    for name in ("models", "runs"):
        shutil.copytree(made / name, tmp_path / name)
    (tmp_path / file).write_text(text)
    command = ["report", "--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    command += ["--bench", str(tmp_path / "runs" / "bench.json"), "--out", str(tmp_path / "out")]
    assert cli.run(command) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--private"], "give --data DIR"),
        (["--private", "--data", "a", "--keep"], "leave out --keep"),
        (["--private", "--data", "a", "--out", "reports"], "is shared; choose another"),
        (["--private", "--data", "a", "--out", "reports/mine"], "is shared; choose another"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--runs", "nowhere"], "--runs nowhere: no such folder"),
        (["--bench", "nowhere.json"], "--bench nowhere.json: no such file"),
    ],
)
def test_wrong_use_is_refused(options, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(site.Path(collect.__file__).parents[2])
    out = [] if "--out" in options else ["--out", str(tmp_path / "out")]
    assert cli.run(["report", *options, *out]) == 2
    assert says in capsys.readouterr().err


def test_sets_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(cli_train, "val_clips", lambda option, folder: (option, folder))
    (tmp_path / "a").mkdir()
    own, named = f"{tmp_path}/a", f"b={tmp_path}"
    found = cli_train.named_data([own, named], "--data")
    assert found == {"a": (f"--data {own}", tmp_path / "a"), "b": (f"--data {named}", tmp_path)}
    with pytest.raises(site.UsageError, match="a second set named a"):
        cli_train.named_data([own, f"a={tmp_path}"])
    for wrong in ("a=", "=a", "a=nowhere", ""):
        with pytest.raises(site.UsageError, match=f"--also {wrong}: no such folder"):
            cli_train.named_data([wrong])


def test_a_folder_with_other_things_in_it_stays_as_it_is(made, tmp_path):
    (tmp_path / "thesis.md").write_text("mine")
    with pytest.raises(site.UsageError, match="holds something that is no report"):
        site.write(collect.collect(made / "models"), tmp_path)


def test_every_ratio_has_an_interval_over_clips():
    part = summary()
    limits = scores.intervals(part)
    assert limits["accuracy"] == pytest.approx(part["interval95"]["accuracy"]["grid512_4px"])
    assert set(limits) >= {"precision", "recall", "recall_strict", "f1", "fp2_share"}
    assert set(scores.intervals({"per_clip": {}}).values()) == {None}


def test_commands_and_curves_are_made_portable_and_short():
    assert (
        trainings.portable("shuttle train --data=/a/b/c --out '/x y/z'") == "shuttle train --data=c --out z"
    )
    points = trainings._thin([(i, i / 3) for i in range(1000)])
    assert len(points) <= trainings.POINTS
    assert points[-1] == [999, 333.0]


def test_main_numbers():
    skipped = [{"cell": "engine", "reason": "no GPU"}, {"cell": "cache", "reason": "no engine"}]
    metrics = {"run": {"seed": 3}, "a": 1, "b": {"c": 0.25, "d": "text"}, "e": [1], "skipped": skipped}
    expected = {"a": 1, "b.c": 0.25, "skipped": "engine: no GPU; cache: no engine"}
    assert notebooks.main_numbers(metrics) == expected
    assert notebooks.main_numbers({"main": {"f1": 0.5}, "other": 1}) == {"f1": 0.5}
    assert notebooks.main_numbers({}) == {}


@pytest.mark.parametrize("folder", [".", "/"])
def test_a_folder_that_is_everywhere_is_cut_from_nowhere(folder, tmp_path):
    text = "It ended. See ./x and https://x.y/z."
    assert notebooks._cut(text, tmp_path / "00_look.ipynb", {"run_dir": folder}) == text


def test_without_chromium_the_pdf_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(printing.shutil, "which", lambda name: None)
    with pytest.raises(store.ReportError, match="needs Chromium"):
        printing.to_pdf(tmp_path / "a.html", tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path")
def test_the_report_prints_to_the_same_pdf(tmp_path):
    page = tmp_path / "a.html"
    page.write_text("<!doctype html><title>a</title><p>words")
    first = printing.to_pdf(page, tmp_path / "a.pdf").read_bytes()
    assert first.startswith(b"%PDF")
    assert printing.to_pdf(page, tmp_path / "b.pdf").read_bytes() == first


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path")
def test_pages_work_in_a_browser_light_and_dark_wide_and_narrow(made):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    names = ["index", "versions/stage2_v9", "compare/index", "published", "runs/mine/00_look"]
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme, width in (("light", 1200), ("dark", 1200), ("dark", 360)):
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
            _look(context, made / "site", names, scheme)
        browser.close()


def _look(context, folder: Path, names: list[str], scheme: str) -> None:
    """Open pages; nothing may be complained about, asked of the network, or wider than the window."""
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    for name in names:
        page.goto((folder / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, scheme)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
        page.evaluate("localStorage.clear()")
    page.goto((folder / "compare" / "index.html").as_uri())
    page.select_option("#a", "stage1_v1")
    page.select_option("#b", "stage1_v2")
    assert "▲ better" in page.inner_text("#compared")
    assert wrong == []
    context.close()


def test_a_figure_shortens_its_coordinates_and_no_number_that_people_read():
    rows = {"stage1_v5": {"stage": 1, "accuracy": 0.536667}, "stage2_v9": {"stage": 2, "accuracy": 0.8167}}
    svg = next(f for f in figures.lineage(rows, "a card") if f.name == "lineage-accuracy").svg
    assert "0.537" in svg
    assert "0.817" in svg
    assert not re.search(r'd="[^"]*\.\d{3}', svg)
