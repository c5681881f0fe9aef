"""Tables of tens of thousands of slices: what is checked, read and asked again, and what must not be."""

import json
import random
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import tiny

from covid_workbench.data import slices as slices_module
from covid_workbench.data.description import CLASS_NAMES, STANDARD
from covid_workbench.data.fact_store import FactStore, packed, unpacked
from covid_workbench.data.slice_facts import FACTS
from covid_workbench.data.slices import SliceTable
from covid_workbench.data.splits import split_by_patient
from covid_workbench.data.survey import known_facts, survey
from covid_workbench.errors import InputError
from covid_workbench.evaluation.baselines import simple_baselines
from covid_workbench.evaluation.classification import grey_histograms
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.runs.datasets import ExperimentData, survey_slices
from covid_workbench.runs.run import Run
from covid_workbench.training import tasks
from covid_workbench.training.tasks import lesion_rows
from covid_workbench.widgets import data as data_widget
from covid_workbench.widgets.data import DataExplorer


@pytest.fixture
def frame() -> pd.DataFrame:
    "300 slices of 60 patients."
    rows = range(300)
    return pd.DataFrame(
        {
            "id": [f"s{row}" for row in rows],
            "patient": [f"p{row // 5}" for row in rows],
            "index": [row % 5 for row in rows],
            "image": [f"{row}.png" for row in rows],
            "label": [CLASS_NAMES[row // 5 % 3] for row in rows],
            "transpose": [row % 2 == 0 for row in rows],
        }
    )


@pytest.fixture
def read_columns(monkeypatch) -> list[str]:
    "The columns that are read and checked from here on."
    found, before = [], slices_module._read_column

    def watched(values, ids, name):
        found.append(values.name)
        return before(values, ids, name)

    monkeypatch.setattr(slices_module, "_read_column", watched)
    return found


def test_a_split_checks_the_column_that_it_changes_alone(frame, read_columns):
    table = SliceTable(frame)
    assert read_columns == list(frame)
    read_columns.clear()
    split = split_by_patient(table)
    assert read_columns == ["split"]
    assert split.frame.equals(SliceTable(split.frame).frame)  # as if all had been checked


@pytest.mark.parametrize(("column", "wrong"), [("label", "covid"), ("split", "exam"), ("frame", -3), ("id", "s1")])
def test_what_is_wrong_in_a_changed_column_is_refused(frame, column, wrong):
    table = SliceTable(frame)
    changed = table.frame.copy()
    changed[column] = [wrong, *changed[column][1:]]
    with pytest.raises(InputError, match=str(wrong)):
        table.with_rows(changed)
    with pytest.raises(
        InputError, match="is unknown"
    ):  # equal rows under a description that does not have their labels
        table.described(STANDARD.replace(classes=("Normal", "other"), normal="Normal"))


def test_a_table_is_read_once_while_its_file_says_the_same(frame, tmp_path, read_columns, monkeypatch):
    path, reads = tmp_path / "slices.csv", []
    frame.to_csv(path, index=False)
    before = slices_module.read_rows
    monkeypatch.setattr(slices_module, "read_rows", lambda path: reads.append(path) or before(path))
    first, second = SliceTable.from_csv(path), SliceTable.from_csv(path)
    assert len(reads) == 1 and read_columns == list(frame) and second.frame.equals(first.frame)
    second.frame.loc[0, "label"] = "CP"  # whoever changes a table changes that one alone
    assert SliceTable.from_csv(path).frame.equals(first.frame)
    frame.assign(label="CP").to_csv(path, index=False)
    assert len(reads) == 1 and set(SliceTable.from_csv(path).frame["label"]) == {"CP"} and len(reads) == 2
    with pytest.raises(InputError, match="label 'CP' is unknown"):
        SliceTable.from_csv(path, description=STANDARD.replace(classes=("Normal", "COVID-19")))


def test_facts_of_any_kind_are_taken_or_refused_as_they_were():
    "Against the plain rule, value by value, over facts with one thing changed at random."

    def fits(value, default) -> bool:
        if isinstance(default, float):
            return type(value) in (int, float)
        if default == []:
            return isinstance(value, list) and all(type(grey) is int and 0 <= grey <= 255 for grey in value)
        if isinstance(default, dict):
            flat = (
                [one for own in value.values() for one in (own if isinstance(own, list) else [own])]
                if isinstance(value, dict)
                else [None]
            )
            return all(type(one) in (int, float) for one in flat)
        return type(value) is type(default)

    draw, taken = random.Random(5), 0
    values = (0, 1.5, True, "x", None, [], [1, 2], [1, 300], [1, True], [0.5], [-1], {}, {"1": 3}, {"1": [2, 3.5]})
    values += ({"1": "x"}, {"1": [None]}, {"1": [True]}, {"1": {}}, [[1]])
    good = FACTS | {"outside": [3, 255], "mask_counts": {"2": 7}, "areas": {"GGO": [4]}, "thumbnail": b"png"}
    for _ in range(5000):
        name, value = draw.choice([own for own in FACTS if own != "thumbnail"]), draw.choice(values)
        made = good | {name: value}
        text, thumbnail = packed(made)
        plain = json.loads(text).get(name, FACTS[name])
        if name == "mask_counts" and not (isinstance(plain, dict) and all(key.isdigit() for key in plain)):
            continue
        wanted = fits(plain, FACTS[name])
        found = unpacked(text, thumbnail)
        assert (found is not None) == wanted, (name, value)
        taken += wanted
    assert 300 < taken < 4000


def test_facts_that_are_known_are_had_without_reading_a_picture(phantom, tmp_path, monkeypatch):
    run, store = tiny(), tmp_path / "survey.sqlite"
    table = SliceTable.from_csv(phantom / "slices.csv")
    assert known_facts(table, store, objects=run.objects) == {} and not store.exists()
    facts = survey(table.where(table.frame.index < 20), store, objects=run.objects, progress=False)
    monkeypatch.setattr(FactStore, "flush", lambda *_: pytest.fail("a picture was read"))
    known = known_facts(table, store, objects=run.objects)
    assert list(known) == list(table.frame["id"][:20])
    for slice_id, wanted in zip(known, facts["greys"]):
        assert known[slice_id]["greys"] == wanted
    picture = table.read(0).pixels
    shares = np.array(facts["greys"][0]["32"]) / picture.size
    assert shares.tolist() == grey_histograms([picture])[0].tolist()


def test_a_grey_histogram_is_that_of_the_bins(random_state=np.random.default_rng(3)):
    picture = random_state.integers(0, 256, (31, 17)).astype(np.uint8)
    for bins in (1, 7, 32, 256):
        wanted = [np.mean(picture.astype(int) * bins // 256 == own) for own in range(bins)]
        assert grey_histograms([picture], bins)[0].tolist() == wanted


def test_baselines_read_no_picture_whose_greys_are_known(finished, monkeypatch):
    parts = ExperimentData(finished.experiment, finished.table)
    wanted, reads = finished.metrics["baselines"], []
    before = SliceTable.read
    monkeypatch.setattr(SliceTable, "read", lambda self, row: reads.append(row) or before(self, row))
    labelled = (parts.table.frame["label"] != "").sum()
    assert simple_baselines(parts) == wanted and len(reads) == labelled
    reads.clear()
    known = known_facts(
        parts.table, finished.folder.parent / "shared" / "survey.sqlite", objects=finished.experiment.objects
    )
    greys = {slice_id: own["greys"]["32"] for slice_id, own in known.items()}
    assert simple_baselines(parts, greys=greys) == wanted and not reads
    del greys[parts.table.frame["id"][parts.table.frame["label"] != ""].iloc[0]]
    assert simple_baselines(parts, greys=greys) == wanted and len(reads) == 1


def test_evaluation_reads_the_slices_that_it_scores_alone(finished, tmp_path, monkeypatch):
    shutil.copytree(finished.folder.parent / "shared", tmp_path / "shared", ignore=shutil.ignore_patterns("slices"))
    shutil.copytree(finished.folder, tmp_path / "run")
    reads, before = set(), SliceTable.read
    monkeypatch.setattr(SliceTable, "read", lambda self, row: reads.add(self.frame["split"][row]) or before(self, row))
    found = evaluate(Run.open(tmp_path / "run"), splits=("test",), progress=False)
    for name, scores in finished.metrics["baselines"].items():
        assert found["baselines"][name]["test"] == scores["test"]
    assert reads == {"test"}


def test_lesion_rows_ask_the_facts_and_read_masks_in_doubt_alone(phantom, tmp_path, monkeypatch):
    experiment = tiny(min_lesion_area=4)
    table = split_by_patient(SliceTable.from_csv(phantom / "slices.csv"))
    facts = survey_slices(table, tmp_path, experiment.objects, progress=False)
    data = ExperimentData(experiment, table, facts)
    dataset = data.dataset("train", lesions=True)
    facts = data.facts_of(dataset)
    wanted, reads = lesion_rows(dataset), []
    assert 0 < len(wanted) < len(dataset)
    doubtful = {
        row for row, told in enumerate(facts.to_dict("records")) if tasks.lesions_by_facts(dataset, told) is None
    }
    before = type(dataset).slice
    monkeypatch.setattr(type(dataset), "slice", lambda self, row: reads.append(row) or before(self, row))
    assert lesion_rows(dataset, facts) == wanted and set(reads) == doubtful and len(doubtful) < len(dataset) / 4
    doubtful, reads[:] = {wanted[0], next(row for row in range(len(dataset)) if row not in wanted)}, []
    asked = iter(range(len(dataset)))
    monkeypatch.setattr(
        tasks, "lesions_by_facts", lambda *_: None if (row := next(asked)) in doubtful else row in wanted
    )
    assert lesion_rows(dataset, facts) == wanted and set(reads) == doubtful


def test_turning_pages_does_not_sort_the_slices_anew(phantom, monkeypatch):
    explorer, asked = DataExplorer(phantom, progress=False), []
    before = data_widget.tiles_of
    monkeypatch.setattr(data_widget, "tiles_of", lambda *about: asked.append(about[1]) or before(*about))
    ids = [tile["id"] for tile in explorer.tiles]
    explorer.page = 1
    assert not asked and explorer.page == 1 and not set(ids) & {tile["id"] for tile in explorer.tiles}
    explorer.order = "lesions"
    assert len(asked) == 1 and explorer.page == 0
    explorer.filters = {"label": ["Normal"]}
    assert len(asked) == 2 and {tile["label"] for tile in explorer.tiles} == {"Normal"}
    counts = {
        one["value"]: one["count"] for facet in explorer.facets if facet["axis"] == "label" for one in facet["values"]
    }
    assert counts == explorer.data.table.frame["label"].value_counts().to_dict()
