"""Small phantom runs for the page "See it": an explorer's saved page, the report of a run, the report of a study.

`python examples.py FOLDER` writes `explorer.html`, `run.html`, `study.html`, and `front_door.md`, the package's names.
"""

import inspect
import shutil
import sys
import tempfile
from pathlib import Path

import covid_workbench
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.reports.run_report import (
    attention_gallery,
    detection_gallery,
    figure_html,
    html_table,
    learning_curves,
    notes_html,
    score_table,
    telling_slices,
    write_page,
)
from covid_workbench.runs.experiment import Experiment
from covid_workbench.runs.run import Run
from covid_workbench.studies.report import write_report
from covid_workbench.studies.runner import run_cells
from covid_workbench.studies.study import Study
from covid_workbench.training.train import train
from covid_workbench.widgets.explorer import AttentionExplorer

LEAD = "A smoke run on the phantom: seconds of training show that everything works, and no figure here is a result."


def example_run(folder: Path) -> Run:
    "A run of seconds, scored on its test patients."
    experiment = Experiment.make("smoke", model="lstm2", phantom_patients=16, phantom_slices=4)
    run = train(experiment, folder, progress=False)
    evaluate(run, progress=False)
    return run


def run_page(run: Run, path: Path) -> None:
    "The report of one run as a page."
    metrics, ids = run.metrics, telling_slices(run)
    scores = score_table({run.folder.name: metrics, **metrics["baselines"]}).reset_index()
    sections = [
        ("Scores", notes_html(metrics["notes"]) + html_table(scores)),
        ("Learning curves", figure_html(learning_curves(run))),
        ("Where it looked", attention_gallery(run, ids=ids)),
        ("Lesions found", detection_gallery(run, ids=ids, score=0.3)),
    ]
    write_page(path, "One run, LSTM-2", LEAD, sections)


def study_page(folder: Path, path: Path) -> None:
    "The report of a study with two cells."
    tiny = {"phantom_patients": 15, "phantom_slices": 2, "phantom_size": 64, "image_size": 64, "fpn_channels": 8}
    study = {"name": "example", "question": "What does a report look like?", "settings": tiny}
    study["axes"] = {"model": ["attention", "lstm1"]}
    done = run_cells(Study.from_dict(study), folder)
    shutil.copy(write_report(done.folder, notebook=False), path)


def front_door() -> str:
    "The names that `import covid_workbench` gives, each with what it is; empty while there are none."
    rows = []
    for name in getattr(covid_workbench, "__all__", ()):
        thing = getattr(covid_workbench, name)
        home, about = getattr(thing, "__module__", ""), (inspect.getdoc(thing) or "").split("\n")[0]
        if str(home).startswith("covid_workbench"):
            rows.append(f"| {{py:obj}}`{name} <{home}.{thing.__qualname__}>` | {about.replace('|', chr(92) + '|')} |")
    if not rows:
        return ""
    head = [
        "# The front door",
        "",
        "> What `import covid_workbench` gives; each name is loaded when it is first used",
        "",
    ]
    return "\n".join([*head, "| name | what it is |", "|---|---|", *rows, ""])


def main(out: Path) -> None:
    out.mkdir(parents=True)
    work = Path(tempfile.mkdtemp())
    run = example_run(work / "lstm2")
    explorer = AttentionExplorer(run)
    explorer.save(out / "explorer.html")
    run_page(run, out / "run.html")
    study_page(work / "study", out / "study.html")
    (out / "front_door.md").write_text(front_door(), encoding="utf-8")
    shutil.rmtree(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
