import json

import pytest

from shuttlelib import versions
from shuttlelib.errors import UsageError


@pytest.mark.parametrize("name", versions.names())
def test_every_row_resolves_and_survives_json(name):
    spec = versions.resolve(name)
    assert spec.name == name
    assert spec.stage in (1, 2)
    assert not spec.parent or spec.parent in versions.ROWS
    assert versions.Spec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


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
