"""How often the 95 % intervals over patients hold the truth: `python tests/heavy/coverage.py`.

Cohorts are drawn from a population that is known: a third of the patients of each class, four slices each, a fifth of
the slices of ill patients normal, half of the error of a slice shared by all of its patient, lesions with detections
that overlap them more or less. For each number of patients the interval of every figure is formed, for one model and
for the difference of two, and it is counted how often it holds the figure of 20,000 patients. Writes the table that
`evaluation.certainty` ships.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

import covid_workbench.evaluation
from covid_workbench.evaluation.ap_certainty import lesion_draws
from covid_workbench.evaluation.certainty import Drawn, class_draws
from covid_workbench.evaluation.found_lesions import FoundLesions
from covid_workbench.evaluation.over_patients import Draws

CLASSES, SLICES, SHARED, NORMAL_OF_ILL = ("Normal", "CP", "COVID-19"), 4, 0.5, 0.2
PATIENTS, DRAWS, POPULATION = (10, 20, 50, 200), 500, 20_000
ALONE = ("accuracy", "weighted F1", "macro F1", "AUC")
BY_CLASS = ("sensitivity", "specificity", "precision", "F1", "AUC")
DIFFERENCES = ("accuracy", "weighted F1", "AUC", "AP@0.5", "AP@[.5:.95]")


@dataclass(frozen=True, eq=False)
class Cohort:
    "n slices of `patients` with `labels`, the `logits` (n, 3) of two models and what they `found`."

    patients: np.ndarray
    labels: np.ndarray
    logits: list[np.ndarray]
    found: list[FoundLesions]


def cohort(chance: np.random.Generator, count: int) -> Cohort:
    "Slices of `count` patients with the answers of two models, the second a little better and partly wrong together."
    patients = np.arange(count).repeat(SLICES)
    labels = chance.integers(0, 3, count).repeat(SLICES)
    labels[chance.random(len(labels)) < NORMAL_OF_ILL] = 0
    errors = [
        np.sqrt(SHARED) * chance.normal(size=(count, 3))[patients]
        + np.sqrt(1 - SHARED) * chance.normal(size=(len(patients), 3))
        for _ in range(2)
    ]
    errors[1] = 0.7 * errors[0] + np.sqrt(1 - 0.7**2) * errors[1]
    logits = [margin * np.eye(3)[labels] + error for margin, error in zip((2.4, 2.7), errors)]
    return Cohort(patients, labels, logits, detections(chance, patients, labels))


def detections(chance: np.random.Generator, patients: np.ndarray, labels: np.ndarray) -> list[FoundLesions]:
    "One to a few lesions in each ill slice, each found more or less well, and detections where there is nothing."
    lesions = np.where(labels > 0, 1 + chance.poisson(1.0, len(labels)), 0)
    false, count = chance.poisson(1.0, len(labels)), int(patients.max()) + 1
    of_lesion, of_false = (np.arange(len(labels)).repeat(own) for own in (lesions, false))
    ease, luck = chance.normal(size=(2, count))
    overlap, doubt = chance.normal(size=(2, len(of_lesion)))
    wrong = expit(0.5 * luck[patients[of_false]] - 1 + 0.8 * chance.normal(size=len(of_false)))
    found = []
    for gain in (0.0, 0.3):
        quality = gain + 0.7 * ease[patients[of_lesion]] + 0.7 * overlap
        scores = np.concatenate([expit(0.7 + 0.5 * quality + 0.8 * doubt), wrong])
        found.append(as_found(patients, of_lesion, expit(1 + quality), np.concatenate([of_lesion, of_false]), scores))
        overlap = 0.8 * overlap + 0.6 * chance.normal(size=len(overlap))
    return found


def as_found(patients, of_lesion, iou, slices, scores) -> FoundLesions:
    "Predictions in the order of slices and scores; the first `len(of_lesion)` overlap a lesion each."
    order = np.lexsort((-scores, slices))
    place = np.argsort(order)[: len(of_lesion)]
    ones, none = np.ones(len(scores), np.int64), np.zeros((len(patients), 3), np.int64)
    targets = np.arange(len(of_lesion))
    return FoundLesions(
        slices=np.char.add("s", np.arange(len(patients)).astype(str)),
        patients=patients.astype(str),
        sizes=none[:, :2] + 64,
        names=np.array(["lesion"]),
        slice=slices[order],
        label=ones,
        score=scores[order],
        area=100 * ones,
        target_slice=of_lesion,
        target_label=ones[: len(of_lesion)],
        target_area=100 * ones[: len(of_lesion)],
        pair=np.stack([place, targets], 1),
        iou=iou,
        pixels=none,
    )


def figures_of(own: Cohort, repeats: int, seed: int = 0) -> dict[str, Drawn]:
    "The figures of the first model, and differences of the two, over `repeats` draws of patients."
    draws, tables = Draws.of(own.patients, repeats, seed), []
    for logits, found in zip(own.logits, own.found):
        table = class_draws(own.labels, logits.argmax(1), softmax(logits, 1), draws, CLASSES)
        of_class = {f"{name} of a class": table[f"{name} {CLASSES[2]}"] for name in BY_CLASS}
        tables.append({name: table[name] for name in ALONE} | of_class | lesion_draws(found, draws))
    differences = {f"difference of {name}": tables[1][name] - tables[0][name] for name in DIFFERENCES}
    return tables[0] | differences


def truth() -> dict[str, float]:
    "The figures of the population."
    figures = figures_of(cohort(np.random.default_rng(2), POPULATION), 0)
    return {name: own.value for name, own in figures.items()}


def coverage(count: int, repeats: int, true: dict[str, float], seed: int = 0) -> list[dict]:
    "Rows of the table for cohorts of `count` patients."
    tallies = {name: [] for name in true}
    for number in range(repeats):
        own = cohort(np.random.default_rng([seed, count, number]), count)
        for name, drawn in figures_of(own, DRAWS, number).items():
            (_, low, high), (_, plain_low, plain_high) = drawn.figure, plain(drawn)
            if low is not None:
                held = low <= true[name] + 1e-9 and true[name] <= high + 1e-9
                plainly = plain_low <= true[name] <= plain_high
                tallies[name].append((held, plainly, high - low, drawn.patients))
    rows = []
    for name, tally in tallies.items():
        held, plainly, width, say = np.mean(tally, axis=0).round(4).tolist()
        row = {"figure": name, "patients": count, "with_a_say": round(say, 1), "repeats": repeats}
        row |= {"defined": len(tally), "coverage": held, "percentile": plainly, "width": width}
        rows.append(row | {"truth": round(true[name], 5)})
    return rows


def plain(drawn: Drawn) -> list:
    "The interval that ends at the 2.5 and the 97.5 percent point of what was drawn."
    defined = drawn.draws[np.isfinite(drawn.draws)]
    return [drawn.value, *(np.quantile(defined, [0.025, 0.975]) if len(defined) else (None, None))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=PATIENTS)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(covid_workbench.evaluation.__file__).parent / "coverage.csv")
    words = parser.parse_args()
    true, rows = truth(), []
    for count in words.patients:
        started = time.process_time()
        rows += coverage(count, words.repeats, true)
        print(f"{count} patients: {time.process_time() - started:.0f} s", file=sys.stderr, flush=True)
        write(rows, words.out)
    print(pd.DataFrame(rows).pivot(index="figure", columns="patients", values=["coverage", "percentile"]).to_string())
    return 0


def write(rows: list[dict], path: Path) -> None:
    "The rows of these numbers of patients; those of others stay as they are."
    frame = pd.DataFrame(rows)
    if path.exists():
        held = pd.read_csv(path)
        frame = pd.concat([held[~held["patients"].isin(frame["patients"])], frame])
    order = {name: at for at, name in enumerate(frame["figure"].unique())}
    frame = frame.sort_values(["patients", "figure"], key=lambda own: own.map(order) if own.name == "figure" else own)
    frame.to_csv(path, index=False)


if __name__ == "__main__":
    sys.exit(main())
