"""Reports of studies: panels, legends, units, bold, threads and plurals say what is there and nothing else."""

import json

import pandas as pd
import pytest
from test_report_tables import filled

from covid_workbench.studies import report, runner
from covid_workbench.studies.display import status_lines
from covid_workbench.studies.estimate import Estimate
from covid_workbench.studies.folder import StudyFolder
from covid_workbench.studies.formats import bar_chart, study_curves
from covid_workbench.studies.prepare import prepare_study
from covid_workbench.studies.results import results
from covid_workbench.studies.state import write_state
from covid_workbench.studies.study import Study, Table
from covid_workbench.studies.tables import Figure, FilledTable, Row, best_in_reach


def history(folder, seconds, **scores) -> None:
    rows = pd.DataFrame({"stage": "aggregator", "step": range(1, len(seconds) + 1), "seconds": seconds} | scores)
    rows.to_csv(folder / "history.csv", index=False)


@pytest.fixture
def study(tmp_path) -> StudyFolder:
    "A study of two cells, whose first has finished on one thread."
    made = Study.from_dict({"name": "two", "axes": {"model": ["lstm1", "lstm2"]}})
    folder = prepare_study(made, tmp_path / "two")
    for cell in folder.cells:
        (cell.folder / "run").mkdir()
    cell = folder.cells[0]
    scores = {"classification": None, "detection": None}
    content = {"parameters": 5, "figures": {"weighted F1": 0.7}, "test": scores}
    (cell.folder / "run" / "metrics.json").write_text(json.dumps(content))
    training = {"seconds": 0.5, "gpu_gib": None, "device": "CPU", "threads": 1}
    (cell.folder / "run" / "cost.json").write_text(json.dumps({"training": training}))
    write_state(cell.folder, {"status": "finished", "attempt": 1, "spent": 12})
    return StudyFolder.open(folder.folder)


def panels(figure) -> list[str]:
    return [note.text for note in figure.layout.annotations]


def test_a_score_without_a_curve_has_no_panel_and_is_named(study):
    assert study_curves(study).layout.title.text == "No cell was validated yet"
    assert "No curve of" not in report._curves_html(study)
    history(study.cells[0].folder / "run", [0.2, 0.5], validation_f1=[0.4, 0.6])
    assert panels(study_curves(study)) == ["validation: weighted F1"]
    assert "No curve of AP@0.5 of lesions: no cell measured it" in report._curves_html(study)
    history(study.cells[1].folder / "run", [0.2, 0.5], validation_ap50=[None, 0.1])
    figure = study_curves(study)
    assert panels(figure) == ["validation: weighted F1", "validation: AP@0.5 of lesions"]
    assert [(line.name, line.xaxis, line.showlegend) for line in figure.data] == [
        ("lstm1", "x", True),
        ("lstm2", "x2", True),  # the only curve of its cell: without a label nobody could name it
    ]
    assert "No curve of" not in report._curves_html(study)


@pytest.mark.parametrize("seconds, unit, last", [([0.2, 0.5], "seconds", 0.5), ([60, 180], "minutes", 3)])
def test_time_is_in_the_unit_of_the_longest_cell(study, seconds, unit, last):
    history(study.cells[0].folder / "run", seconds, validation_f1=[0.4, 0.6])
    figure = study_curves(study)
    assert figure.layout.xaxis.title.text == f"{unit} of training" and figure.data[0].x[-1] == last


def test_stages_follow_each_other_in_time(study):
    rows = {"stage": ["detector"] * 2 + ["joint"] * 2, "step": [1, 2] * 2, "seconds": [100.0, 7200, 100, 3600]}
    rows |= {"validation_f1": [0.1, 0.2, 0.3, 0.4]}
    pd.DataFrame(rows).to_csv(study.cells[0].folder / "run" / "history.csv", index=False)
    figure = study_curves(study)
    assert figure.layout.xaxis.title.text == "hours of training" and figure.data[0].x[-1] == 3


def test_costs_read_in_a_unit_of_their_own(study):
    table = report.costs(study)
    assert table["seconds in all"][0] == 12 and table["seconds of training"][0] == pytest.approx(0.5)
    assert table["device"][0] == "CPU, 1 thread" and "GPU GiB" not in table
    assert "training minutes" in results(study)  # the table of figures keeps its names


def test_costs_and_provenance_name_the_same_threads(study):
    told = report.provenance(study).set_index("item")["value"]
    assert told["cells ran on"] == "CPU, 1 thread" == report.costs(study)["device"][0]
    assert not any("cpu_threads" in item for item in told.index)


def table_of(*means, interval=None) -> FilledTable:
    rows = tuple(
        Row((model, str(beta)), {"weighted F1": Figure(mean, interval=interval and interval[at], n=1)}, ())
        for at, (mean, (model, beta)) in enumerate(zip(means, [("a", 4), ("a", 8), ("b", 4), ("b", 8)]))
    )
    table = Table("Regions", ("model", "roi_batch"), ("weighted F1",))
    return FilledTable(table, rows, table.figures, ("",) * len(rows))


def test_bold_is_explained_where_something_is_bold():
    assert report._bold_words([table_of(0.3, 0.3, 0.3, 0.3)]) == ""
    assert report._bold_words([table_of(0.3, 0.4, 0.3, 0.3)]) == "The best figure of a column is bold. "
    assert not table_of(0.4, 0.4, 0.3, 0.3).best  # shared
    apart = table_of(0.3, 0.9, interval=[(0.2, 0.4), (0.8, 0.95)])
    close = table_of(0.3, 0.4, interval=[(0.2, 0.5), (0.3, 0.6)])
    assert apart.best and not best_in_reach(apart) and best_in_reach(close)
    assert "not shown to be better" in report._bold_words([apart, close])
    unknown = table_of(0.3, 0.4, interval=[(None, None), (0.3, 0.6)])
    assert not best_in_reach(unknown) and "not shown" not in report._bold_words([apart, unknown])


def test_the_legend_names_the_axis_of_its_values():
    chart = bar_chart(table_of(0.3, 0.4, 0.3, 0.3))
    assert chart.layout.legend.title.text.strip() == "roi_batch" and [bar.name for bar in chart.data] == ["4", "8"]
    assert not bar_chart(filled()).layout.legend.title.text  # a single axis stands below the bars


def test_bars_show_the_intervals_of_a_single_seed():
    chart = bar_chart(table_of(0.3, 0.4, interval=[(0.2, 0.5), (0.35, 0.6)]))
    assert chart.data[0].error_y.array[0] == pytest.approx(0.2)
    assert chart.data[0].error_y.arrayminus[0] == pytest.approx(0.1)
    assert "whisker" in report._reading([table_of(0.3, 0.4, interval=[(0.2, 0.5), (0.35, 0.6)])])
    assert not bar_chart(table_of(0.3, 0.4)).data[0].error_y.visible


@pytest.mark.parametrize(
    "said, workers, threads", [("1", 1, 1), ("3", 1, 3), ("3", 4, 2), ("3,1", 1, 3), ("", 2, 4), ("x", 2, 4)]
)
def test_a_cell_takes_no_more_threads_than_the_shell_allows(monkeypatch, said, workers, threads):
    monkeypatch.setattr(runner, "_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert runner.threads_each(0, workers) == threads
    assert runner.threads_each(5, workers) == 5  # asked for


def test_an_estimate_says_workers_and_threads():
    cells = pd.DataFrame({"cell": ["a"], "seconds": [100.0], "GiB": [1.0], "measured": [True]})
    assert "with 1 worker of 1 CPU thread," in str(Estimate(cells, 1, 1))
    assert "with 2 workers of 3 CPU threads," in str(Estimate(cells, 2, 3))
    assert "with 2 workers, at" in str(Estimate(cells, 2))


def test_one_finished_cell_of_another_study_is_one_cell(study):
    other = study.folder / "cells" / "old-key"
    other.mkdir()
    write_state(other, {"status": "finished", "attempt": 1})
    assert "Not part of this study: 1 finished cell in" in "\n".join(status_lines(StudyFolder.open(study.folder)))
