import shlex

import pytest
from typer.testing import CliRunner

from shuttlelib.cli import app
from shuttlelib.errors import UsageError


def run(*words):
    """The output of a command; errors come through as they are."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", ["data push", "data pull", "data fetch", "models push", "models pull"])
def test_help_shows_an_example_and_offers_no_token(command):
    output = run(*command.split(), "--help")
    assert f"Example: shuttle {command} " in output
    assert "--token" not in output


def test_public_sets_are_listed_with_their_licences():
    output = run("data", "fetch")
    assert "tracknetv3: 36 broadcast rallies" in output
    assert "licence: MIT, (c) 2024 alenzenx" in output
    assert "licence: none stated" in output


def test_nothing_is_fetched_before_the_licence_was_read(tmp_path, capsys):
    with pytest.raises(UsageError, match="read the licence above, then give --yes"):
        run("data", "fetch", "tracknetv3", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_copy_that_is_here_is_imported(tmp_path, tiny_video):
    folder = tmp_path / "raw_data"
    folder.mkdir()
    tiny_video("raw_data/00001.mp4", frames=2)
    (folder / "00001.csv").write_text("Frame,Ball,x,y\n0,1,0.5,0.5\n1,0,-1,-1\n")
    output = run("data", "fetch", "tracknetv3", "--yes", "--source", folder, "--out", tmp_path / "out")
    assert output.index("licence: MIT") < output.index("1 clip with 2 labelled frames")
    following = output.rpartition("next: shuttle ")[2]
    assert "findings, listed in" in run(*shlex.split(following))
    assert "00001,Kuala Lumpur,val" in (tmp_path / "out" / "splits.csv").read_text()


def test_a_mean_does_not_replace_what_it_is_made_of(tmp_path):
    with pytest.raises(UsageError, match="is one of the two; give another folder"):
        run("models", "mean", tmp_path, tmp_path, "--out", tmp_path)


def test_a_push_without_a_licence_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nothing is pushed without a licence"):
        run("data", "push", "me/rallies", "--data", tmp_path)
