"Hostile inputs: each ends in a clear finding or sentence, no traceback, nothing half-written."

import json
import re
from pathlib import Path

import pytest
from hostile import HOSTILE


def files_in(folder):
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("one", HOSTILE, ids=lambda one: one.name)
def test_a_hostile_input_is_named(one, command, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    opened = one.make(folder) or folder
    before = files_in(folder)
    code, out, err = command("data", "check", opened)
    said = out + err
    assert "Traceback" not in said, said
    assert re.search(one.sees, " ".join(said.split()), re.IGNORECASE), said
    assert code == one.code, said
    assert files_in(folder) == before


def test_there_are_fifty_and_more_and_the_guide_shows_them():
    assert len({one.name for one in HOSTILE}) == len(HOSTILE) >= 50
    guide = json.loads((Path(__file__).parents[1] / "nbs" / "guides" / "your_own_data.ipynb").read_text())
    text = "".join("".join(cell["source"]) for cell in guide["cells"])
    assert [one.name for one in HOSTILE if f"| {one.name} | {one.code} |" not in text] == []
