"""The house keeps its plan: rooms and imports, numbers, lengths; names that moved, runs and studies from before."""

import csv
import importlib
import json
import sys
from pathlib import Path

import pytest
from house import LIMITS, ROOMS, circles, main, measure, numbers, room_of, upward

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))

import rooms as site  # noqa: E402


@pytest.fixture(scope="module")
def house():
    return measure(ROOT)


def test_no_import_points_up_and_none_comes_back(house):
    assert upward(house) == [] and circles(house) == []
    assert {room_of(module) for module in house.imports} == set(ROOMS)


def test_every_notebook_has_a_number_of_its_room_and_depends_on_lower_ones(house):
    found = numbers(ROOT)
    plan = {room.name: range(room.first, room.last + 1) for room in site.ROOMS}
    assert len({number for number, _ in found}) == len(found) and tuple(plan) == ROOMS
    number_of = {module: number for number, module in found}
    for module, number in number_of.items():
        assert number in plan[room_of(module)], module
        for other in house.imports[module]:
            assert number_of.get(other, -1) < number, f"{module} imports {other}"


def test_every_module_is_exported_from_its_notebook(house):
    modules = {module for module in house.imports if not (ROOT / "covid_workbench" / module.replace(".", "/")).is_dir()}
    assert modules - {"__init__"} == {module for _, module in numbers(ROOT)}


@pytest.mark.parametrize("kind", LIMITS)
def test_nothing_is_longer_than_is_easy_to_hold_in_the_head(house, kind):
    assert [f"{piece.where}: {piece.length}" for piece in house.over(kind)] == []


def test_the_measure_sees_what_is_wrong(tmp_path, capsys):
    "A package with a circle, an import upward, a long line, a long cell; what the measure says of it."
    package = tmp_path / "covid_workbench" / "models"
    package.mkdir(parents=True)
    (tmp_path / "covid_workbench" / "data").mkdir()
    (tmp_path / "covid_workbench" / "data" / "slices.py").write_text("from ..models.zoo import build\n")
    (package / "zoo.py").write_text("def f():\n    from covid_workbench.data.slices import Slice\n")
    (package / "pane.js").write_text("x" * 121)
    cell = {"cell_type": "code", "id": "a", "source": ["def f():\n", *["    pass\n"] * 41]}
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs" / "100_models.zoo.ipynb").write_text(json.dumps({"cells": [cell]}))
    house = measure(tmp_path)
    assert upward(house) == [("data.slices", "models.zoo")] and len(circles(house)) == 1
    assert {kind: len(house.over(kind)) for kind in LIMITS} == {"cell": 1, "function": 1, "class": 0, "line": 1}
    main([str(tmp_path), str(tmp_path)])
    assert "imports upward" in capsys.readouterr().out


def test_every_public_name_from_before_the_rooms_is_somewhere():
    "tests/moved_names.csv: where each public name stood before the rooms, where it stands now and what it is called."
    with (ROOT / "tests" / "moved_names.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 600
    for row in rows:
        found = importlib.import_module(f"covid_workbench.{row['module']}")
        for part in row["now"].split("."):
            assert hasattr(found, part), row
            found = getattr(found, part)
