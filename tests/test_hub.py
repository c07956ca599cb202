import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import huggingface_hub
import pyarrow.parquet as pq
import pytest
import yaml
from hub_server import TOKEN, Blob, Hub

from shuttlelib import cleanup, clips, labels, networks, runs, splits, versions
from shuttlelib.apps.hub import client, data, layout, public, weights
from shuttlelib.apps.hub.client import HubError
from shuttlelib.errors import ShuttleError, UsageError
from shuttlelib.files import WriteError, sha256

# The client sends large files by a keyword that its own HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def waits(monkeypatch):
    """Seconds that the client and we would have slept."""
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture
def hub(tmp_path, monkeypatch, waits):
    """A Hub on loopback, and a client that is logged in there."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "HF_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hf_home" / name))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    huggingface_hub.close_session()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path, tiny_video):
    """A data folder of three clips in two venues, one frame unlabelled, one label outside the picture."""
    for name in ("a", "b", "c"):
        width = {"a": 64, "b": 96, "c": 128}[name]
        path = tiny_video(f"{name}.mp4", frames=4, size_hw=(64, width))
        table = labels.make_table(
            name, [0, 1, 2], [1, 0, 1], [5.5, 0, 900 if name == "c" else 7], 6.0, "synthetic"
        )
        venue, part = ("Odense", "val") if name == "c" else ("Tokyo", "train")
        clips.store(clips.Clip(name, path, table, clips.probe(path), venue, part), tmp_path / "mine")
    return tmp_path / "mine"


def push(folder, **options):
    return data.push("me/rallies", folder, "cc-by-4.0", **options)


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_a_data_folder_goes_up_and_comes_back_byte_for_byte(hub, folder, tmp_path):
    cleanup.clean_dataset(folder, folder)
    before = contents(folder)
    moved = push(folder)
    files = hub.dataset("me/rallies").commits[-1][1]
    assert moved.revision == hub.dataset("me/rallies").commits[-1][0]
    assert {path for path in files if path != ".gitattributes"} == {
        "README.md",
        "audit.csv",
        "splits.csv",
        "clips/train/metadata.parquet",
        "clips/val/metadata.parquet",
        "clips/train/a.mp4",
        "clips/train/b.mp4",
        "clips/val/c.mp4",
        "labels/train/a.parquet",
        "labels/train/b.parquet",
        "labels/val/c.parquet",
    }
    data.pull("me/rallies", tmp_path / "theirs")
    theirs = contents(tmp_path / "theirs")
    assert json.loads(theirs.pop("revision.json"))["revision"] == moved.revision
    theirs.pop(".hub.lock", None)
    assert theirs == before
    assert contents(folder).keys() - before.keys() == {"revision.json"}


def test_the_card_says_what_how_many_where_which_faults_and_under_what_licence(hub, folder):
    push(folder)
    text = hub.dataset("me/rallies").commits[-1][1]["README.md"].data.decode()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["configs"][0]["data_files"] == [
        {"split": "train", "path": "clips/train/*"},
        {"split": "validation", "path": "clips/val/*"},
    ]
    text = " ".join(text.split())
    assert "3 clips, 9 labelled frames of which 6 show the shuttle, 2 venues" in text
    assert "| val | Odense | 1 | 4 | 3 | 67% |" in text
    assert "| out_of_frame | Points outside the picture. | 1 | 1 | left as it is |" in text
    assert "the centre of the top-left pixel is (0.5, 0.5)" in text


def test_videos_and_labels_stream_as_one_row_a_clip(hub, folder, tmp_path):
    dataset = clips.load_dataset(folder, raw=True)
    layout.stage(dataset, folder, tmp_path / "stage")
    rows = pq.read_table(tmp_path / "stage" / "clips" / "train" / "metadata.parquet").to_pylist()
    assert [row["file_name"] for row in rows] == ["a.mp4", "b.mp4"]
    assert rows[0]["x_px"] == [5.5, None, 7.0]
    assert rows[0]["visible"] == [True, False, True]
    assert rows[0]["video_sha256"] == sha256(folder / "a.mp4")


@pytest.mark.parametrize("licence", [None, "", "  ", "all rights reserved"])
def test_without_a_licence_nothing_is_pushed(hub, folder, licence):
    with pytest.raises(UsageError, match="nothing is pushed without a licence"):
        data.push("me/rallies", folder, licence)
    assert hub.requests == []


def test_a_licence_that_the_hub_does_not_know_is_refused_before_any_upload(hub, folder):
    with pytest.raises(
        HubError, match=r"refuses the card .*\"license\" is unknown.* give a licence it knows"
    ):
        data.push("me/rallies", folder, "nonsense")
    assert not hub.uploads


def test_a_second_push_makes_no_commit_and_an_edit_sends_only_itself(hub, folder):
    first = push(folder)
    uploads = dict(hub.uploads)
    again = push(folder)
    assert (again.files, again.revision) == (0, first.revision)
    assert len(hub.dataset("me/rallies").commits) == 2  # the one that came with the repository, and ours
    table, info = labels.read_table(folder / "a.parquet")
    labels.write_table(folder / "a.parquet", table.iloc[:2], info)
    assert runs.data_revision(folder) == f"me/rallies@{first.revision}-edited"
    push(folder)
    sent = {name for name in hub.uploads if name not in uploads}
    files = hub.dataset("me/rallies").commits[-1][1]
    assert sent == {files["labels/train/a.parquet"].sha256, files["clips/train/metadata.parquet"].sha256}


def test_a_clip_taken_out_here_leaves_the_repository_but_not_its_history(hub, folder):
    first = push(folder)
    for path in folder.glob("b.*"):
        path.unlink()
    push(folder)
    repo = hub.dataset("me/rallies")
    assert "clips/train/b.mp4" not in repo.commits[-1][1]
    assert "clips/train/b.mp4" in repo.at(first.revision)[1]


def test_a_cut_upload_goes_on_where_it_stopped(hub, folder, waits):
    hub.cut = {sha256(folder / "b.mp4")}
    with pytest.raises(HubError, match=r"cannot be reached .* same command again: it goes on"):
        push(folder)
    whole = dict(hub.uploads)
    assert whole
    assert len(hub.dataset("me/rallies").commits) == 1
    hub.cut = set()
    push(folder)
    assert set(hub.uploads.values()) == {1}, "a file that was whole was sent again"
    assert whole.keys() < hub.uploads.keys()
    assert "clips/train/b.mp4" in hub.dataset("me/rallies").commits[-1][1]


def test_what_others_changed_is_never_undone_unasked(hub, folder, tmp_path):
    push(folder)
    data.pull("me/rallies", tmp_path / "theirs")
    table, info = labels.read_table(tmp_path / "theirs" / "a.parquet")
    labels.write_table(tmp_path / "theirs" / "a.parquet", table.iloc[:1], info)
    push(tmp_path / "theirs")
    labels.write_table(folder / "a.parquet", table.iloc[1:], info)
    with pytest.raises(HubError, match=r"labels/train/a\.parquet.* changed there .* or give --replace"):
        push(folder)
    with pytest.raises(HubError, match=r"a\.parquet changed here since the last pull"):
        data.pull("me/rallies", folder)
    assert len(labels.read_table(folder / "a.parquet")[0]) == 2
    push(folder, replace=True)
    assert (
        hub.dataset("me/rallies").commits[-1][1]["labels/train/a.parquet"].data
        == (folder / "a.parquet").read_bytes()
    )


def test_a_push_that_another_overtakes_is_refused(hub, folder):
    push(folder)
    hub.refused["/commit/"] = [412, {}, 1]
    (folder / "b.parquet").unlink()
    with pytest.raises(HubError, match="has changed meanwhile: pull, then push again"):
        push(folder)


def test_a_pull_follows_a_revision_and_leaves_what_it_has(hub, folder, tmp_path):
    first = push(folder)
    for path in folder.glob("b.*"):
        path.unlink()
    second = push(folder)
    out = tmp_path / "out"
    assert data.pull("me/rallies", out, first.revision).revision == first.revision
    served = dict(hub.served)
    assert data.pull("me/rallies", out, first.revision).files == 0
    assert dict(hub.served) == served
    assert data.pull("me/rallies", out).revision == second.revision
    assert [clip.name for clip in clips.load_dataset(out, raw=True)] == ["a", "c"]
    with pytest.raises(HubError, match="has no such revision"):
        data.pull("me/rallies", out, "v9")


def test_a_damaged_file_is_named_and_leaves_nothing(hub, folder, tmp_path):
    push(folder)
    good = hub.dataset("me/rallies").commits[-1][1]["clips/train/b.mp4"].data
    hub.damaged["clips/train/b.mp4"] = good[:-1] + bytes([good[-1] ^ 1])
    out = tmp_path / "out"
    with pytest.raises(HubError, match=r"clips/train/b\.mp4 arrived damaged"):
        data.pull("me/rallies", out)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    hub.damaged.clear()
    data.pull("me/rallies", out)
    assert (out / "b.mp4").read_bytes() == good
    assert hub.served["clips/train/a.mp4"] == 1, "what was whole came again"


def test_a_wrong_token_is_told_and_never_repeated(hub, folder, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongButSecret999")
    with pytest.raises(HubError, match=r"does not accept your token .*hf auth login") as caught:
        push(folder)
    said = capsys.readouterr()
    assert "hf_wrongButSecret999" not in f"{caught.value!r} {said.out} {said.err}"
    assert caught.value.__cause__ is None
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="writing to the Hub needs a login: run `hf auth login`"):
        push(folder)


def test_a_private_repository_stays_so(hub, folder, tmp_path, monkeypatch):
    push(folder, private=True)
    assert hub.dataset("me/rallies").private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"not found, or private: .*hf auth login"):
        data.pull("me/rallies", tmp_path / "out")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.dataset("me/rallies").private = False
    with pytest.raises(HubError, match="is public: make it private"):
        push(folder, private=True)


@pytest.mark.parametrize("place", ["POST /api/repos/create", "/commit/", "PUT /lfs/", "/tree/", "/revision/"])
def test_too_many_requests_are_waited_for_as_long_as_the_hub_asks(hub, folder, tmp_path, waits, place):
    hub.refused[place] = [429, {"Retry-After": "7"}, 2]
    push(folder)
    data.pull("me/rallies", tmp_path / "out", "main")
    assert [seconds for seconds in waits if seconds >= 7] in ([7, 7], [8.0, 8.0])  # the client adds a second


def test_a_hub_that_goes_on_refusing_is_given_up(hub, folder, waits):
    hub.refused["repos/create"] = [429, {"Retry-After": "60"}, 99]
    with pytest.raises(
        HubError, match="too many requests for the Hub; wait 60 s, then give the same command"
    ):
        push(folder)
    assert waits == [60] * (client.TRIES - 1)
    hub.refused["repos/create"] = [429, {"Retry-After": "3600"}, 99]
    with pytest.raises(HubError, match="wait 3600 s"):
        push(folder)
    assert waits == [60] * (client.TRIES - 1), "an hour is a person's to wait"


def test_two_pulls_at_once_into_one_folder_share_the_work(hub, folder, tmp_path):
    moved = push(folder)
    done, out = [], tmp_path / "out"
    threads = [threading.Thread(target=lambda: done.append(data.pull("me/rallies", out))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.files for one in done) == [0, 7]
    assert set(hub.served.values()) == {1}
    assert runs.data_revision(out) == f"me/rallies@{moved.revision}"
    assert len(clips.load_dataset(out, raw=True)) == 3


def test_a_disk_that_fills_leaves_the_old_state_and_can_be_taken_up(hub, folder, tmp_path, monkeypatch):
    first = push(folder)
    out = tmp_path / "out"
    data.pull("me/rallies", out)
    before = contents(out)
    table, info = labels.read_table(folder / "a.parquet")
    labels.write_table(folder / "a.parquet", table.iloc[:2], info)
    second = push(folder)
    assert second.revision != first.revision

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(WriteError, match="out: cannot be written: the disk is full"):
            data.pull("me/rallies", out)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
        with pytest.raises(WriteError, match=r"0\.0 MB are free: free some space"):
            data.pull("me/rallies", out)
    assert {name: content for name, content in contents(out).items() if not name.startswith(".hub")} == {
        name: content for name, content in before.items() if not name.startswith(".hub")
    }
    assert data.pull("me/rallies", out).files == 1
    assert len(labels.read_table(out / "a.parquet")[0]) == 2


def test_local_files_that_never_came_from_the_hub_are_not_written_over(hub, folder, tmp_path):
    push(folder)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.parquet").write_bytes(b"a week of labels")
    with pytest.raises(HubError, match=r"a\.parquet changed here"):
        data.pull("me/rallies", out)
    assert (out / "a.parquet").read_bytes() == b"a week of labels"


def test_a_folder_of_another_repository_is_left_alone(hub, folder, tmp_path):
    push(folder)
    for path in folder.glob("b.*"):
        path.unlink()
    data.push("me/others", folder, "cc-by-4.0")
    out = tmp_path / "out"
    data.pull("me/rallies", out)
    before = contents(out)
    for there, repo, held in ((out, "me/others", "me/rallies"), (folder, "me/rallies", "me/others")):
        with pytest.raises(
            HubError, match=f"{there.name}: holds {held}, not {repo}: pull into another folder"
        ):
            data.pull(repo, there)
    assert contents(out) == before


@pytest.mark.parametrize("name", ["rallies", "me/ra/llies", "me/ra llies"])
def test_a_wrong_name_or_repository_is_told(hub, folder, tmp_path, name):
    with pytest.raises((UsageError, HubError), match=r"give owner/name|not found|check the name"):
        data.pull(name, tmp_path / "out")


def test_a_repository_of_something_else_is_told(hub, folder, tmp_path):
    push(folder)
    hub.dataset("me/rallies").commit({"data/train.parquet": Blob(b"x", True)})
    with pytest.raises(HubError, match="`shuttle data push` did not make it"):
        data.pull("me/rallies", tmp_path / "out")


def test_names_from_the_hub_cannot_leave_the_folder():
    names = [
        "clips/train/../../x.mp4",
        "labels/train/a/b.parquet",
        "clips/train/.x.mp4",
        "labels/val/x.exe",
        "/etc/x",
    ]
    assert layout.local_names(names) == {}
    with pytest.raises(ShuttleError, match="would get the same name"):
        layout.local_names(["clips/train/a.mp4", "clips/val/a.mp4"])


def test_runs_name_the_revision_of_their_data(hub, folder, tmp_path):
    moved = push(folder)
    run = runs.start_run(tmp_path / "run", 0, "quick", data=[folder, tmp_path])
    run.write_metrics({})
    noted = json.loads((tmp_path / "run" / "metrics.json").read_text())["run"]["data_revision"]
    assert noted == f"me/rallies@{moved.revision}"
    cleanup.clean_dataset(folder, tmp_path / "clean")
    assert runs.data_revision(tmp_path / "clean") == f"{noted}-edited"
    assert "data_revision" not in runs.start_run(tmp_path / "other", 0, "quick", data=tmp_path).facts


@pytest.fixture
def model(tmp_path):
    spec = versions.resolve(
        "stage2_v8", input_hw=(64, 64), backbone="mobilenetv4_conv_small_050", neck_channels=16
    )
    networks.save(networks.build(spec), tmp_path / "best")
    score = {"grid512_4px": 0.81234}
    facts = {
        "training": {"judged on": "6 clips"},
        "free_running": {"smart": {"accuracy": score, "f1": score}},
    }
    (tmp_path / "best" / "metrics.json").write_text(json.dumps(facts))
    (tmp_path / "best" / "README.md").write_text("# stage2_v8\n\n## Limits\n")
    (tmp_path / "best" / "last.pt").write_bytes(b"optimizer state")
    return tmp_path / "best"


def test_weights_go_up_with_a_card_and_come_back_to_load(hub, model, tmp_path):
    moved = weights.push("me/shuttle", [model], "mit")
    files = hub.repos["model", "me/shuttle"].commits[-1][1]
    assert "stage2_v8/model.safetensors" in files
    assert not any(path.endswith(".pt") for path in files)
    card = files["README.md"].data.decode()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["library_name"]) == ("mit", "shuttlelib")
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.8123
    assert "\n### Limits\n" in card
    assert weights.pull("me/shuttle", tmp_path / "models").revision == moved.revision
    assert networks.load(tmp_path / "models" / "stage2_v8").net.spec.name == "stage2_v8"
    assert weights.push("me/shuttle", [model], "mit").files == 0


def test_the_card_tells_of_all_versions_that_are_there(hub, model, tmp_path):
    spec = networks.load(model).net.spec
    networks.save(networks.build(replace(spec, name="stage2_v7")), tmp_path / "other")
    weights.push("me/shuttle", [model], "mit")
    weights.push("me/shuttle", [tmp_path / "other"], "mit")
    card = hub.repos["model", "me/shuttle"].commits[-1][1]["README.md"].data.decode()
    assert "`stage2_v7`, `stage2_v8`" in card
    assert "\n### Limits\n" in card
    head = yaml.safe_load(card.split("---")[1])
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.8123
    assert weights.push("me/shuttle", [model], "mit").files == 0
    assert hub.served["stage2_v8/model.safetensors"] == 0, "weights came for a card"


def test_a_damaged_card_of_a_model_folder_is_named(hub, model):
    (model / "metrics.json").write_text('{"free_running": {')
    with pytest.raises(ShuttleError, match=r"metrics\.json: not a JSON object"):
        weights.push("me/shuttle", [model], "mit")
    (model / "version.json").write_text("{")
    with pytest.raises(ShuttleError, match=r"version\.json: not a JSON object"):
        weights.push("me/shuttle", [model], "mit")


def test_new_weights_leave_no_graph_or_measure_of_the_old_ones(hub, model, tmp_path):
    for name in ("model.onnx", "model.fp16.onnx"):
        (model / name).write_bytes(b"a graph")
    weights.push("me/shuttle", [model], "mit")
    weights.pull("me/shuttle", tmp_path / "models")
    there = tmp_path / "models" / "stage2_v8"
    (there / "model.int8.onnx").write_bytes(b"made here")
    assert weights.pull("me/shuttle", tmp_path / "models").files == 0
    assert (there / "model.int8.onnx").is_file(), "it is of these weights"
    anew = networks.build(networks.load(model).net.spec)
    networks.save(anew, tmp_path / "anew")
    weights.push("me/shuttle", [tmp_path / "anew"], "mit")
    held = {path for path in hub.repos["model", "me/shuttle"].commits[-1][1] if "/" in path}
    assert held == {f"stage2_v8/{name}" for name in weights.NEEDED}
    weights.pull("me/shuttle", tmp_path / "models")
    assert {path.name for path in there.iterdir()} == set(weights.NEEDED)


def test_a_pull_that_is_refused_keeps_the_graphs_made_here(hub, model, tmp_path):
    weights.push("me/shuttle", [model], "mit")
    weights.pull("me/shuttle", tmp_path / "models")
    there = tmp_path / "models" / "stage2_v8"
    net = networks.load(model).net
    networks.save(networks.build(net.spec), there)
    (there / "model.onnx").write_bytes(b"made here")
    networks.save(networks.build(net.spec), model)
    weights.push("me/shuttle", [model], "mit")
    with pytest.raises(HubError, match="changed here since the last pull"):
        weights.pull("me/shuttle", tmp_path / "models")
    assert (there / "model.onnx").is_file()


def test_damaged_weights_are_not_kept(hub, model, tmp_path):
    weights.push("me/shuttle", [model], "mit")
    path = "stage2_v8/model.safetensors"
    good = hub.repos["model", "me/shuttle"].commits[-1][1][path].data
    hub.damaged[path] = good[:-4] + b"\1\2\3\4"
    with pytest.raises(HubError, match=f"{path} arrived damaged"):
        weights.pull("me/shuttle", tmp_path / "models")
    assert not (tmp_path / "models" / "stage2_v8").exists()


def test_a_folder_without_weights_and_a_missing_licence_are_refused(hub, model, tmp_path):
    with pytest.raises(UsageError, match=r"no model\.safetensors there"):
        weights.push("me/shuttle", [tmp_path], "mit")
    with pytest.raises(UsageError, match="nothing is pushed without a licence"):
        weights.push("me/shuttle", [model], None)


@pytest.fixture
def github(hub, monkeypatch, folder):
    """GitHub's part of the loopback server, with two rallies of raw_data."""
    monkeypatch.setattr(public, "GITHUB_API", f"{hub.url}/github/api")
    monkeypatch.setattr(public, "GITHUB_RAW", f"{hub.url}/github/raw")
    from hub_server import Repo

    text = "Frame,Ball,x,y\n0,1,0.5,0.5\n1,0,-1.000,-1.000\n"
    repo = hub.repos["github", "alenzenx/TrackNetV3"] = Repo()
    files = {"README.md": b"x", "raw_data2/00001.csv": text.encode()}
    for name in ("00001", "00008", "99999"):
        files |= {
            f"raw_data/{name}.csv": text.encode(),
            f"raw_data/{name}.mp4": (folder / "a.mp4").read_bytes(),
        }
    return repo.commit({path: Blob(content, False) for path, content in files.items()})


def test_tracknetv3_is_fetched_verified_and_divided_by_venue(hub, github, tmp_path):
    out = tmp_path / "out"
    hub.damaged["raw_data/00008.mp4"] = b"x" * len((tmp_path / "a.mp4").read_bytes())
    with pytest.raises(HubError, match=r"raw_data/00008\.mp4 arrived damaged"):
        public.fetch("tracknetv3", out, revision=github)
    hub.damaged.clear()
    imported = public.fetch("tracknetv3", out, revision=github)
    assert [clip.name for clip in imported] == ["00001", "00008", "99999"]
    assert splits.read(out)["00001"] == ("Kuala Lumpur", "val")
    assert splits.read(out)["99999"] == ("unknown", "train")
    assert hub.served["raw_data/00001.mp4"] == 1
    assert not hub.trusted, "GitHub was sent a token of the Hub"
    assert clips.load_dataset(out)[0].table["x_px"][0] == 32.0


def test_fetching_again_keeps_a_split_made_by_hand(hub, github, tmp_path):
    out = tmp_path / "out"
    public.fetch("tracknetv3", out, revision=github)
    mine = {"00001": ("Kuala Lumpur", "train"), "00008": ("hall 2", "val"), "99999": ("home", "test")}
    splits.write(out, mine)
    public.fetch("tracknetv3", out, revision=github)
    assert splits.read(out) == mine
    splits.write(out, {"00002": ("Kuala Lumpur", "test")})
    public.fetch("tracknetv3", out, revision=github)
    assert splits.read(out)["00001"] == ("Kuala Lumpur", "test"), "a venue stays in one split"


def test_racketvision_is_fetched_from_the_hub_without_the_other_sports(hub, folder, tmp_path):
    from hub_server import Repo

    repo = hub.repos["dataset", "linfeng302/RacketVision"] = Repo()
    video, text = (folder / "a.mp4").read_bytes(), b"Frame,X,Y,Visibility\n2,10,20,1\n"
    files = {}
    for sport in ("badminton", "tennis"):
        for match, rally in (("match1", "000"), ("match1", "001"), ("match2", "000")):
            files[f"{sport}/videos/{match}_{rally}.mp4"] = Blob(video, True)
            files[f"{sport}/all/{match}/csv/{rally}_ball.csv"] = Blob(text, False)
        files[f"{sport}/info/train.json"] = Blob(b'[["match1", "000"], ["match2", "000"]]', False)
        files[f"{sport}/info/test.json"] = Blob(b'[["match1", "001"]]', False)
        files[f"{sport}/info/train_coco.json"] = Blob(b"{}", True)
    repo.commit(files)
    out = tmp_path / "out"
    imported = public.fetch("racketvision", out)
    assert {clip.name: clip.split for clip in imported} == {
        "match1_000": "test",
        "match1_001": "test",
        "match2_000": "train",
    }
    assert not [path for path in hub.served if "tennis" in path or "coco" in path]
    assert clips.load_dataset(out)[0].table["frame"].tolist() == [2]


def test_a_set_that_only_a_browser_gets_says_how(tmp_path):
    with pytest.raises(UsageError, match=r"open https://hackmd\.io.*--source FOLDER"):
        public.fetch("shuttlecock_trajectory", tmp_path)
    with pytest.raises(UsageError, match="choose one of tracknetv3, "):
        public.fetch("coco", tmp_path)
    assert all("licence: " in public.notice(name) for name in public.SETS)


def command(hub, tmp_path, *words):
    """The real command line in a process of its own, logged in by the environment only."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    env |= {"HF_HUB_DISABLE_XET": "1", "SHUTTLE_DEBUG": "1", "HF_DEBUG": "1"}
    code = "import sys; from shuttlelib.cli import main; sys.argv[0] = 'shuttle'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_commands_work_and_no_word_or_file_holds_the_token(hub, folder, tmp_path):
    out = tmp_path / "out"
    done = [
        command(hub, tmp_path, "data", "push", "me/rallies", "--data", folder, "--licence", "mit"),
        command(hub, tmp_path, "data", "pull", "me/rallies", "--out", out),
    ]
    assert [one.returncode for one in done] == [0, 0], done
    assert "pushed 10 files" in done[0].stdout
    assert "pulled 7 files" in done[1].stdout
    hub.refused["/revision/"] = [401, {}, 99]
    hub.refused["GET /api/datasets"] = [401, {}, 99]
    refused = command(hub, tmp_path, "data", "pull", "me/rallies", "--out", out)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("error: me/rallies: the Hub does not accept your token")
    unasked = command(hub, tmp_path, "data", "push", "me/rallies", "--data", folder)
    assert unasked.returncode == 2
    assert "nothing is pushed without a licence" in unasked.stderr
    words = "".join(one.stdout + one.stderr for one in (*done, refused, unasked))
    assert TOKEN not in words
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
