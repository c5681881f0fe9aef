"""`covid-workbench scores`: every figure with its interval, of runs of all kinds; words where nothing can be said."""

import json

import numpy as np
import pytest

from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.reports.scores_page import scores_json, write_scores
from covid_workbench.runs.test_uses import test_uses as looks_of


def numbers(part, way=""):
    "All numbers in JSON, with the way to each."
    if isinstance(part, dict):
        for name, own in part.items():
            yield from numbers(own, f"{way}.{name}")
    elif isinstance(part, list):
        for at, own in enumerate(part):
            yield from numbers(own, f"{way}[{at}]")
    elif isinstance(part, int | float) and not isinstance(part, bool):
        yield way, part


def test_figures_are_those_of_the_metrics(finished, command):
    code, out, _ = command("scores", finished.folder, "--json")
    found, metrics = json.loads(out), finished.metrics["test"]
    assert code == 0 and all(np.isfinite(value) for _, value in numbers(found))
    figures = found["certainty"]["classification"]["figures"]
    assert figures["weighted F1"][0] == pytest.approx(metrics["classification"]["weighted_f1"])
    assert figures["accuracy"][0] == pytest.approx(metrics["classification"]["accuracy"])
    slices = next(own for name, own in found["levels"].items() if name.startswith("slice"))
    assert slices["overall"]["accuracy"][0] == pytest.approx(figures["accuracy"][0])
    ap = found["certainty"]["merged"]["figures"]["AP@0.5"]
    assert ap[0] == pytest.approx(metrics["detection"]["merged"]["ap50"], abs=1e-8) and ap[1] <= ap[0] <= ap[2]
    for part in ("classification", "merged"):
        own = found["certainty"][part]
        assert own["patients"] == metrics["patients"] and own["method"] in own["note"]
        assert set(own["coverage"]) == set(own["figures"]) == set(own["with_a_say"])


def test_the_page_holds_every_figure_with_its_interval(scored, command):
    code, out, _ = command("scores", scored.folder)
    page = (scored.folder / "scores.html").read_text()
    figure = scores_json(scored)["certainty"]["classification"]["figures"]["weighted F1"]
    words = "{:.3f} ({:.3f} to {:.3f})".format(*figure)
    assert code == 0 and words in page and words in out and "scores.html" in out
    assert "not a medical device" in page and "Lesions of the test slices" in page
    other = write_scores(scored, scored.folder / "elsewhere", "validation")
    assert other.name == "scores-validation.html" and "validation" in other.read_text()


def test_evaluating_is_a_look_at_the_test_split(scored):
    before = len(looks_of(scored).known)
    evaluate(scored, splits=("validation",), progress=False)
    assert len(looks_of(scored).known) == before
    evaluate(scored, progress=False)
    assert [own.what for own in looks_of(scored).known][before:] == ["evaluate"]
    page = write_scores(scored).read_text()
    assert "The test split was looked at" in page


def test_a_run_from_before_says_what_it_lacks(scored, command):
    (scored.folder / "lesions.npz").unlink()
    found = scores_json(scored)
    assert found["certainty"]["merged"] is None and "evaluate" in found["lesions"]["note"]
    assert found["lesions"]["note"] in write_scores(scored).read_text()
    (scored.folder / "predictions.csv").unlink()
    code, _, error = command("scores", scored.folder)
    assert code == 2 and "evaluate" in error and "\n" not in error


def test_probabilities_that_are_none_are_refused_with_the_slice(scored, command):
    path = scored.folder / "predictions.csv"
    lines = path.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.endswith(",test"))
    names, cells = lines[0].split(","), lines[at].split(",")
    cells[next(n for n, name in enumerate(names) if name.startswith("p_"))] = "nan"
    path.write_text("\n".join([*lines[:at], ",".join(cells), *lines[at + 1 :]]) + "\n")
    code, _, error = command("scores", scored.folder)
    assert code == 2 and cells[0] in error and "not a number" in error
