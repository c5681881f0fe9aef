"""Curves and tables of scores: their titles say what they show, their points are those of the figures."""

import shutil

import numpy as np
import pytest

from covid_workbench.evaluation.class_figures import Cases, class_scores
from covid_workbench.evaluation.found_lesions import LESIONS
from covid_workbench.evaluation.lesion_figures import RATES, froc_figures, pretended_lesions
from covid_workbench.evaluation.over_patients import Draws
from covid_workbench.evaluation.prevalence import predictive_values
from covid_workbench.reports.curves_of_scores import (
    class_table,
    figure_words,
    froc_picture,
    overall_table,
    precision_picture,
    prevalence_picture,
    reliability_picture,
    roc_picture,
    size_table,
)
from covid_workbench.reports.run_report import write_page
from covid_workbench.reports.score_sections import score_sections
from covid_workbench.runs.run import Run

NAMES = ("Normal", "<b>CP", "COVID-19")


def some_cases(**changes) -> Cases:
    "Two hundred cases of fifty patients, answered better than by chance."
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 3, 200)
    logits = chance.normal(0, 1, (200, 3)) + 1.5 * np.eye(3)[truth]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ids, patients = (np.array([f"{at // width}" for at in range(200)]) for width in (1, 4))
    fields = dict(split="test", level="slices", classes=NAMES, normal="Normal", ids=ids, patients=patients)
    return Cases(**fields | {"truth": truth, "shares": shares} | changes)


def test_the_area_below_the_drawn_curve_is_the_auc_and_its_title_names_the_hardest_class():
    cases = some_cases()
    figures = {name: own["AUC"] for name, own in class_scores(cases)["classes"].items()}
    picture = roc_picture(cases)
    lines = {line.name: line for line in picture.data if line.mode is None}
    for name, figure in figures.items():
        line = lines[name.replace("<", "&lt;").replace(">", "&gt;")]
        assert np.trapezoid(line.y, line.x) == pytest.approx(figure[0])
    worst = min(figures.values())
    assert picture.layout.title.text.endswith(f"AUC {figure_words(worst)}")
    assert "<b>" not in picture.to_json().replace("\\u003cb\\u003e", "<b>")


def test_the_free_response_curve_goes_through_its_figures():
    found = pretended_lesions()
    figures = froc_figures(found, 1, Draws.of(found.patients))
    picture = froc_picture(found)
    dots = next(line for line in picture.data if line.mode == "markers")
    assert list(dots.x) == list(RATES) and list(dots.y) == pytest.approx([figures[f"{at:g}"][0] for at in RATES])
    assert picture.layout.title.text.startswith(f"{figures['mean'][0]:.2f} of the lesions")


def test_predictive_values_are_drawn_at_their_prevalence():
    cases = some_cases()
    line = next(line for line in prevalence_picture(cases).data if line.name == "PPV COVID-19")
    called, ill = cases.shares[:, 2] >= 0.5, cases.truth == 2
    expected = predictive_values(called[ill].mean(), (~called[~ill]).mean(), np.array(line.x))[0]
    assert list(line.y) == pytest.approx(expected)


def test_one_class_alone_is_said_and_nothing_drawn():
    alone = some_cases(truth=np.ones(200, int))
    for picture in (roc_picture(alone), precision_picture(alone), prevalence_picture(alone)):
        assert "there is no curve" in picture.layout.title.text.lower()
    assert len(reliability_picture(alone, 2.0).data) == 3 and overall_table(alone)["AUC"].item() == "–"
    none = some_cases(truth=np.zeros(0, int), shares=np.zeros((0, 3)), ids=np.zeros(0, str), patients=np.zeros(0, str))
    assert reliability_picture(none).layout.title.text == "There is no case" and len(class_table(none)) == 3


def test_a_page_of_a_run_holds_lesions_and_all_levels(finished, tmp_path):
    sections = dict(score_sections(finished))
    assert list(sections)[0] == "Lesions of the test slices" and len(sections) == 4
    for words in ("FROC, IoU ≥ 0.5", "smallest third", "Dice", "released code", "Plotly.newPlot"):
        assert words in sections["Lesions of the test slices"], words
    for words in ("balanced accuracy", "ECE", "specificity", "prevalence"):
        assert words in sections["Classes, slice by slice"], words
    page = write_page(tmp_path / "scores.html", "Scores", "", list(sections.items())).read_text()
    assert page.count("Plotly.newPlot(") >= 13


def test_what_a_run_does_not_hold_is_said(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    (folder / LESIONS).unlink()
    (folder / "predictions.csv").unlink()
    html = " ".join(content for _, content in score_sections(Run.open(folder)))
    assert "was not kept" in html and "was not evaluated yet" in html and "Plotly" not in html
    assert size_table({"note": "why"}).empty
