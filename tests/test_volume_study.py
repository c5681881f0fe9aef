"""The study of whole scans: its cells, the papers' figures beside ours, what is said beside them, its estimate."""

import json

import pandas as pd
import pytest

from covid_workbench.evaluation.published import published, published_figures
from covid_workbench.evaluation.volume_figures import JUDGED, VOLUME_FIGURES, VOLUMES_JUDGED, volume_figures
from covid_workbench.models.volume_settings import VolumeSettings
from covid_workbench.studies import timing
from covid_workbench.studies.estimate import _count_slices, _signature, estimate_cells
from covid_workbench.studies.folder import StudyFolder
from covid_workbench.studies.formats import bar_chart, table_html, table_latex
from covid_workbench.studies.prepare import prepare_study
from covid_workbench.studies.results import figures_of
from covid_workbench.studies.shipped import STUDIES
from covid_workbench.studies.study import FIGURES, SIZES, Study
from covid_workbench.studies.tables import fill_table

VOLUME = STUDIES["volume"]
CLASSES = {name: {"sensitivity": 0.5, "precision": 0.5} for name in ("Normal", "COVID-19")}


def judged(value: float, auc: bool = True) -> dict:
    "Figures that differ, each with its interval."
    names = (*JUDGED, "AUC") if auc else JUDGED
    return {name: [value + at / 100, value - 0.1, value + 0.2] for at, name in enumerate(names)}


def finish(cell, value: float, attention: bool = True) -> None:
    "Make a cell look finished, with these scores."
    answers = {
        **{"slices": 40, "with_lesion": 9, "unknown": 0, "volumes": 2},
        "auc_within": [value, value - 0.2, value + 0.1],
        "auc_pooled": [value / 2, None, None],
        "auc_with_volume": [value / 2, None, None],
        "rules": {
            "above_mean": {"within": judged(value - 0.3, False), "with_volume": judged(0.1, False)},
            "top_quarter": {"within": judged(value - 0.2, False), "with_volume": judged(0.2, False)},
        },
    }
    classes = {"weighted_f1": value, "accuracy": value, "classes": CLASSES, "class_names": list(CLASSES)}
    scores = {"classification": classes, "detection": None, "one_against_rest": {"COVID-19": judged(value)}}
    scores |= {"slice_answers": answers if attention else None}
    baseline = {"test": {"classification": classes | {"weighted_f1": 0.6}}}
    note = "Source and label are confounded: A has Normal alone."
    metrics = {"test": scores, "baselines": {"source alone": baseline}, "notes": [note]}
    (cell.folder / "run").mkdir()
    (cell.folder / "run" / "metrics.json").write_text(json.dumps(metrics))
    (cell.folder / "state.json").write_text(json.dumps({"status": "finished", "attempt": 1, "spent": 1}))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    "Title -> a filled table of a study with made-up scores, all different."
    folder = prepare_study(VOLUME, tmp_path_factory.mktemp("study") / "out", size="paper")
    for number, cell in enumerate(folder.cells):
        finish(cell, 0.6 + number / 50, attention=cell.cell.labels["network"] != "N-SLA")
    folder = StudyFolder.open(folder.folder)
    assert [cell.status for cell in folder.cells] == 6 * ["finished"]
    return {table.title: fill_table(folder, table) for table in VOLUME.tables}


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_the_rows_of_the_papers_tables(size):
    cells = {cell.name: cell.experiment() for cell in VOLUME.cells(size)}
    assert len(cells) == 6
    settings = {name: experiment.volume for name, experiment in cells.items()}
    base = settings["full-none"]
    parts = {name: (own.lung_fusion, own.map_attention, own.slice_attention) for name, own in settings.items()}
    assert parts == {
        **dict.fromkeys(("full-none", "full-stochastic", "full-tone"), (True, True, True)),
        "N_SCA-none": (True, False, True),
        "N_SLA-none": (True, True, False),
        "N_MSCA-none": (False, False, True),
    }
    assert {name: own.enhancement for name, own in settings.items() if own.enhancement != "none"} == {
        "full-stochastic": "stochastic",
        "full-tone": "tone",
    }
    for experiment in cells.values():
        assert experiment.one_shot.model == "resnext-plus"
        assert experiment.one_shot.classes == ("Normal", "COVID-19")
    for name in ("volume_slices", "lung_mask", "volume_statistics"):
        assert {getattr(own, name) for own in settings.values()} == {getattr(base, name)}


def test_every_published_figure_of_the_paper_stands_beside_one_of_ours(tables):
    rows = published_figures().query("source == 'resnext-plus-2020'")
    assert len(rows) == 65 and set(rows["metric"]) < set(VOLUME_FIGURES) and rows["value"].between(0, 1).all()
    shown = []
    for title, filled in tables.items():
        for row in filled.rows:
            for name, figure in row.figures.items():
                if figure.published is not None:
                    table = title.split(":")[0].removeprefix("Table ")
                    shown.append((table, row.labels[-1], name, figure.published))
    expected = [
        (
            row.table,
            row.model.removeprefix("resnext-plus").removeprefix(" enhancement=").strip("-"),
            row.metric,
            row.value,
        )
        for row in rows.itertuples()
    ]
    assert sorted((a, b.lower(), c, d) for a, b, c, d in shown) == sorted(expected)


def test_ours_stand_in_the_right_rows_with_intervals(tables):
    first = {row.labels: row.figures for row in tables["Table 1: volumes"].rows}
    assert list(first) == [("none",), ("stochastic",), ("tone",)]
    assert [own["volume accuracy"].mean for own in first.values()] == [0.6, 0.62, 0.64]
    assert first["none",]["volume accuracy"].published == 1 and first["none",]["volume AUC"].published is None
    assert first["tone",]["volume accuracy"].spread == "0.54–0.84"
    assert [bar.y[0] for bar in bar_chart(tables["Table 1: volumes"]).data] == [0.6, 1.0]  # the accuracy, and printed
    second = {row.labels[0]: row.figures for row in tables["Table 2: volumes"].rows}
    assert list(second) == ["full", "N-SCA", "N-SLA", "N-MSCA"]
    assert second["N-MSCA"]["volume sensitivity"].published == 0 and second["N-SCA"]["volume F1"].mean > 0.6
    slices = {row.labels[0]: row.figures for row in tables["Table 2: slices by attention"].rows}
    assert slices["full"]["slice AUC"].mean == 0.6 and slices["full"]["slice AUC"].spread == "0.40–0.70"
    assert slices["full"]["slice accuracy"].mean == pytest.approx(0.3)
    assert slices["full"]["slice accuracy"].published == 0.776
    assert slices["N-SLA"]["slice AUC"].mean is None and slices["N-SLA"]["slice AUC"].published is None
    other = {row.labels: row.figures for row in tables["Slices by the other rule"].rows}
    assert other["full", "none"]["slice accuracy, top quarter"].mean == pytest.approx(0.4)
    assert other["full", "none"]["slice AUC, pooled"].spread == "–"
    baselines = tables["Volumes beside what sees no lung"].rows[0].figures
    assert baselines["weighted F1 of source alone"].mean == 0.6 and baselines["weighted F1"].mean == 0.6


def test_the_warning_stands_beside_the_papers_figures_and_nowhere_else(tables):
    for title, filled in tables.items():
        page, latex = table_html(filled), table_latex(filled)
        whole = "volumes" in title and title.startswith("Table")
        assert ("source and label are confounded" in page) == ("source and label are confounded" in latex) == whole
        assert ("names no rule" in page) == ("slices by" in title)
        assert ("302 CT volumes, 80/20 split, 60 volumes." in page) == title.startswith("Table")
    other = Study.from_dict({"name": "other", "axes": {"model": ["lstm2"]}})
    assert not other.tables  # a study of slices has none of it


def test_figures_of_slice_models_are_as_they_were():
    scores = {"weighted_f1": 0.8, "accuracy": 0.79, "classes": CLASSES}
    assert not set(figures_of({"test": {"classification": scores}})) & set(VOLUME_FIGURES)
    assert published("lstm-attention-2022", "IV", "attention", "resnet18")["weighted F1"] == 0.9563
    several = {"one_against_rest": {"CP": judged(0.5), "COVID-19": judged(0.6)}}
    assert not set(volume_figures(several)) & set(VOLUMES_JUDGED)  # of which class would they be?
    assert set(VOLUME_FIGURES) <= set(FIGURES)


def test_a_figure_that_is_not_defined_is_left_out():
    undefined = {"one_against_rest": {"COVID-19": judged(0.5) | {"precision": [None, None, None]}}}
    found = volume_figures(undefined | {"slice_answers": {"auc_within": [None] * 3, "auc_pooled": [0.5, 0.4, 0.6]}})
    assert set(VOLUMES_JUDGED) - set(found) == {"volume precision"}
    assert "slice AUC" not in found and found["slice AUC, pooled"] == [0.5, 0.4, 0.6]


def test_the_estimate_counts_volumes_and_the_slices_to_enhance(monkeypatch, tmp_path):
    def made_up(experiments, budget, threads):
        enhance = {"none": 0.0, "tone": 0.0, "stochastic": 1.0}
        return [
            {"classification": 2.0, "answer": 0.5, "enhance": enhance[own.volume.enhancement], "memory": 3.0}
            for own in experiments
        ]

    monkeypatch.setattr("covid_workbench.studies.estimate.measure", made_up)
    cells = VOLUME.cells("smoke", settings={"phantom_patients": 60, "phantom_slices": 10, "epochs": 3})
    frame = estimate_cells(cells).cells.set_index("cell")
    experiment = cells[0].experiment()
    assert _count_slices(experiment) == {"labelled": 24, "validation": 9, "test": 15, "enhanced": 600}
    assert len({_signature(cell.experiment()) for cell in cells}) == 6
    seconds = 12 + 24 * 0.5 + 3 * 24 * 2 + 3 / experiment.training.validate_every * 9 * 0.5
    assert frame.loc["full-none", "seconds"] == pytest.approx(seconds)
    assert frame.loc["full-stochastic", "seconds"] == pytest.approx(seconds + 600) and len(frame) == 6


def test_volumes_of_a_data_folder_are_counted(phantom):
    cells = VOLUME.cells("smoke", data=str(phantom))
    found = _count_slices(cells[0].experiment())
    frame = pd.read_csv(phantom / "slices.csv", keep_default_na=False)
    assert found["enhanced"] == len(frame) == 30 and found["validation"] + found["test"] < 15
    assert 0 < found["labelled"] < 15 - found["validation"] - found["test"]  # without CP


def test_the_network_of_a_volume_is_timed():
    tiny = dict(image_size=32, volume_slices=3, phantom_size=64, enhancement="tone")
    experiment = VOLUME.cells("smoke")[0].experiment().replace(**tiny)
    times = timing.time_steps(experiment)
    assert set(times) == {"parameters", "classification", "answer", "enhance", "memory"}
    assert min(times.values()) > 0 and experiment.volume != VolumeSettings()
