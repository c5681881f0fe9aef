"""What a first reader stumbled over: refusals that name what is there, counts that say what figures rest on."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_report_tables import filled

from covid_workbench.api import open_run
from covid_workbench.data.sources import open_source
from covid_workbench.errors import InputError
from covid_workbench.reports.answer_page import overlay_words
from covid_workbench.reports.external_section import scores_beside
from covid_workbench.studies import report
from covid_workbench.widgets.asking import AttentionView, check_view


def test_what_is_no_run_names_those_that_may_be_meant(tmp_path):
    for name in ("lstm1", "lstm2"):
        (tmp_path / "demo" / name).mkdir(parents=True)
        (tmp_path / "demo" / name / "experiment.json").write_text("{}")
    with pytest.raises(InputError, match=r"demo is not a run: it has no experiment.json; runs in it: lstm1, lstm2$"):
        open_run(tmp_path / "demo")
    with pytest.raises(InputError, match=r"lstm3 is not a run: there is no such folder, did you mean 'lstm[12]'\?$"):
        open_run(tmp_path / "demo" / "lstm3")
    with pytest.raises(InputError, match=r"a is not a run: there is no such folder$"):
        open_run(tmp_path / "nothing" / "a")


def test_pictures_that_no_layout_takes_are_counted_and_shown(tmp_path):
    for place in ("covid/pat0", "covid/pat1", "healthy/pat0"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / place / "1.png")
    says = r"no slices found, but 3 pictures such as covid/pat0/1.png; a slices.csv beside them .*known layouts are"
    with pytest.raises(InputError, match=says):
        open_source(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no slices found; known layouts"):
        open_source(tmp_path / "empty")


def test_a_slice_of_another_split_is_not_taken_for_another_patient(finished):
    view = AttentionView([finished], finished.table.split("test"))
    other = finished.table.split("validation").frame["id"].iloc[0]
    with pytest.raises(InputError, match=f"slice '{other}' is of the validation split of .*: not shown here"):
        check_view(view, {"slice": other})
    with pytest.raises(InputError, match="slice 'none' is not among these"):
        check_view(view, {"slice": "none"})


@pytest.mark.parametrize("unlabelled", [7, 0])
def test_figures_say_how_many_slices_have_a_label(scored, unlabelled):
    path = scored.folder / "metrics.json"
    metrics = json.loads(path.read_text())
    judged = metrics["test"]["slices"] = metrics["test"]["classification"]["n"]
    path.write_text(json.dumps(metrics))
    run, other = open_run(scored.folder), metrics["test"] | {"slices": judged + unlabelled}
    beside = scores_beside(SimpleNamespace(run=run, folder=run.folder / "other", metrics=metrics | {"external": other}))
    assert beside["slices"].tolist() == [judged, judged + unlabelled]
    assert ("with a label" in beside) == bool(unlabelled)
    if unlabelled:
        assert list(beside)[:4] == ["slices of", "slices", "with a label", "patients"]
        assert beside["with a label"].tolist()[-1] == judged


def test_a_study_without_figures_draws_no_empty_chart():
    assert report._bars_html(filled([{"model": "lstm1", "F1": None}])).startswith("<p>No bars: no cell")
    assert "plotly" in report._bars_html(filled([{"model": "lstm1", "F1": 0.5}]))


def test_a_heading_claims_no_certainty_by_rounding():
    entry = {"id": "P1", "class": "CP", "probabilities": {"CP": 0.9996, "Normal": 0.0004}}
    assert overlay_words(entry) == "P1: CP > 0.99"
