"""Tables and titles of reports: what is bold, named, explained, and how much room it takes."""

from types import SimpleNamespace

import pandas as pd
from plotly.graph_objects import Figure as Plot

from covid_workbench.reports.run_report import html_table, learning_curves
from covid_workbench.studies.formats import bar_chart, table_html, table_latex
from covid_workbench.studies.report import REPORT_STYLE, _frame_html, _reading
from covid_workbench.studies.study import Table
from covid_workbench.studies.tables import Figure, FilledTable, Row, _interval

ROWS = [
    {"model": "ours", "weighted F1": 0.8, "sensitivity CP": 0.7, "sensitivity Normal": 0.9},
    {"model": "other", "weighted F1": 0.6, "sensitivity CP": 0.6, "sensitivity Normal": 0.8},
    {"model": "majority class", "weighted F1": 0.3, "sensitivity CP": 0.0, "sensitivity Normal": 1.0},
]


def filled(rows=ROWS, title: str = "T", **more) -> FilledTable:
    columns = tuple(name for name in rows[0] if name != "model")
    own = tuple(
        Row((row["model"],), {name: Figure(mean=row[name], n=1, **more) for name in columns}, ()) for row in rows
    )
    return FilledTable(Table(title, ("model",), columns), own, columns, ("",) * len(own))


def test_the_majority_class_has_no_best_sensitivity():
    page = html_table(pd.DataFrame(ROWS))
    assert page.count('class="best"') == 3 and "<td>1.000</td>" in page
    assert all(f'<td class="best">{value}</td>' in page for value in ("0.800", "0.700", "0.900"))
    for text, bold in ((table_html(filled()), "<b>{}</b>"), (table_latex(filled()), r"\textbf{{{}}}")):
        assert all(bold.format(value) in text for value in ("0.800", "0.700", "0.900"))
        assert bold.format("1.000") not in text
    tied = [row | {"sensitivity Normal": 1.0} for row in ROWS[:1]] + ROWS[1:]
    assert html_table(pd.DataFrame(tied)).count('<td class="best">1.000</td>') == 1
    assert table_html(filled(tied)).count("<b>1.000</b>") == 1


def test_nothing_is_said_of_figures_that_are_not_there():
    assert _reading([filled([{"model": "a", "accuracy": 0.5}])]) == ""
    said = _reading([filled(interval=(0.5, 0.9))])
    assert "95 %" in said and "misses a class" in said
    assert not any(word in said for word in ("AP", "ceiling", "±"))
    said = _reading([filled([{"model": "a", "AP@0.5 ceiling": 0.9}])])
    assert "COCO" in said and "ceiling" in said and "95 %" not in said


def test_long_titles_break_and_axes_are_named():
    chart = bar_chart(filled(title="A long question about a grid of models on another source of data, with seeds"))
    lines = chart.layout.title.text.split("<br>")
    assert len(lines) == 2 and max(map(len, lines)) <= 64 and chart.layout.yaxis.title.text == "weighted F1"


def test_titles_of_curves_do_not_stand_four_in_a_row():
    history = pd.DataFrame({"stage": "joint", "step": [1, 2], "loss_rpn_box": 1.0, "loss_image": 1.0})
    history = history.assign(validation_f1=0.5, validation_ap50=0.5)
    kind = SimpleNamespace(one_shot=SimpleNamespace(model="lstm2"))
    figure: Plot = learning_curves(SimpleNamespace(detector=None, experiment=kind, history=history))
    places = {(round(note.x, 2), round(note.y, 2)) for note in figure.layout.annotations}
    assert len(places) == 4 and len({x for x, _ in places}) == 2
    alone = learning_curves(
        SimpleNamespace(detector=None, experiment=kind, history=history[["stage", "step", "loss_image"]])
    )
    assert len(alone.layout.annotations) == 1


def test_long_words_break_in_plain_tables():
    page = _frame_html(pd.DataFrame({"item": ["own models"], "value": ["x" * 500]}))
    assert '<table class="plain">' in page and "table.plain td" in REPORT_STYLE
    assert "overflow-wrap:anywhere" in REPORT_STYLE.partition("table.plain")[2].partition("}")[0]


def test_a_single_seed_has_the_interval_of_every_figure_that_its_metrics_keep():
    figures = {"AP@0.5": [0.4, 0.31, 0.52], "AP@[.5:.95]": [0.1, None, None]}
    certain = {"classification": {"figures": {"accuracy": [0.8, 0.7, 0.9]}}, "detection": {"figures": figures}}
    certain["merged"] = {"figures": {"AP@0.5": [0.5, 0.45, 0.61]}}
    scores = {"classification": {"f1_interval": [0.6, 0.7]}, "certainty": certain}
    spreads = {name: Figure(n=1, interval=_interval({"test": scores}, name)).spread for name in (*figures, *NAMES)}
    assert spreads == {
        "AP@0.5": "0.31–0.52",
        "AP@[.5:.95]": "–",
        "AP@0.5 merged": "0.45–0.61",
        "AP@0.5 ceiling": "",
        "accuracy": "0.70–0.90",
        "weighted F1": "0.60–0.70",
    }


NAMES = ("AP@0.5 merged", "AP@0.5 ceiling", "accuracy", "weighted F1")
