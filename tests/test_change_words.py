"""A change is told with digits that show it, in Python as in the browser (tests/change_words.csv)."""

import csv
from pathlib import Path

import pytest

from covid_workbench.figure_names import change_words
from covid_workbench.reports.question_picture import two_answers, verdict_words

CASES = list(csv.DictReader((Path(__file__).parent / "change_words.csv").open(encoding="utf-8")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["words"])
def test_a_change_shows_in_what_is_said_of_it(case):
    before, after = ((float(case[f"p {name}"]), float(case[f"logit {name}"])) for name in ("before", "after"))
    was, now, more = change_words(before, after, "CP")
    assert f"{was} → {now}{more}" == case["words"]


def said(p: float, logit: float) -> dict:
    return {"classes": ["Normal", "CP"], "logits": [0.0, logit], "probabilities": [1 - p, p]}


def test_a_picture_of_a_what_if_says_what_changed():
    before, after = said(0.99999, 11.0), said(0.99998, 10.5)
    assert verdict_words(after, before, "CP") == "CP 1.00 (right) → CP 1.00 (right), logit −0.50"
    assert verdict_words(said(0.9981, 6.0), said(0.9999, 11.0), "") == "CP 1.000 (no label) → CP 0.998 (no label)"
    assert two_answers(said(0.2, -1.0), said(0.8, 1.0)) == ("Normal 0.80", "CP 0.80", "")
