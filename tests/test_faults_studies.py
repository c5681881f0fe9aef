"""Hostile studies: folders of somebody else, damaged files, impossible options. One sentence, nothing lost."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import tiny
from studies_kit import TINY_STUDY, toy_study, write_study

from covid_workbench.data.slices import SliceTable
from covid_workbench.errors import InputError, StorageError
from covid_workbench.models import zoo
from covid_workbench.reports.run_report import figure_html, plot_text
from covid_workbench.runs.run import Run
from covid_workbench.studies import runner
from covid_workbench.studies.cell import Caller, execute_cell
from covid_workbench.studies.display import status_lines
from covid_workbench.studies.folder import StudyFolder
from covid_workbench.studies.formats import bar_chart, table_html, table_latex
from covid_workbench.studies.prepare import caller_of, prepare_study
from covid_workbench.studies.processes import Limits
from covid_workbench.studies.report import write_report
from covid_workbench.studies.state import damage_of, read_state
from covid_workbench.studies.study import Study, read_study
from covid_workbench.studies.tables import fill_table

SCORES = {
    "weighted_f1": 0.7,
    "accuracy": 0.7,
    "classes": {name: {"sensitivity": 0.7, "precision": 0.7} for name in ("Normal", "CP", "COVID-19")},
    "f1_interval": [0.6, 0.8],
}
METRICS = {"parameters": 5, "test": {"classification": SCORES, "detection": None}}
OWN = """
from pathlib import Path
Path({mark!r}).touch()
from covid_workbench.models.zoo import AGGREGATORS, register_model
register_model("{name}", AGGREGATORS["mean-pool"], description="for a test", any_beta=True)
"""


def make_study(folder: Path, content: dict | None = None, **options):
    "A prepared study of two cells whose runs are made up: both finished."
    study = prepare_study(Study.from_dict(content or TINY_STUDY), folder / "study", **options)
    for cell in study.cells:
        (cell.folder / "run").mkdir()
        (cell.folder / "run" / "metrics.json").write_text(json.dumps(METRICS))
        state = {"status": "finished", "attempt": 1, "spent": 60, "host": "a", "reason": ""}
        (cell.folder / "state.json").write_text(json.dumps(state))
    return study


def change(path: Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_folder_imports_nothing(tmp_path, command, monkeypatch):
    "Looking at a study that names a Python file does not run the file, in any version's manifest."
    monkeypatch.delenv("COVID_WORKBENCH_MODELS", raising=False)
    study = make_study(tmp_path)
    mark = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(OWN.format(mark=str(mark), name="evil"))
    entry = {"file": str(tmp_path / "evil.py"), "sha256": "0" * 64, "models": ["evil"]}
    for recorded in (str(tmp_path / "evil.py"), [entry], 5):
        change(study.folder / "manifest.json", models=recorded)
        cells = [study.folder / cell.folder / "cell.json" for cell in study.cells]
        for path in cells:
            change(path, models=recorded)
        for words in (("status", study.folder), ("report", study.folder, "--no-notebook")):
            assert command(*words)[0] == 0
        from covid_workbench.widgets.run_folders import find_runs

        find_runs(study.folder)
        assert not mark.exists() and "COVID_WORKBENCH_MODELS" not in os.environ


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    "A file with a model of one's own, forgotten again afterwards."
    monkeypatch.delenv("COVID_WORKBENCH_MODELS", raising=False)
    path = tmp_path / "mine.py"
    path.write_text(OWN.format(mark=str(tmp_path / "imported"), name="mine"))
    yield path
    forget("mine", path)


def forget(name: str, path: Path) -> None:
    zoo.AGGREGATORS.pop(name, None)
    zoo.CARDS.pop(name, None)
    zoo._imported.pop(path.resolve(), None)
    if name in zoo.MODELS:
        zoo.MODELS.remove(name)


def test_own_models_come_from_the_caller(tmp_path, own_model, command, monkeypatch):
    content = TINY_STUDY | {"axes": {"model": ["lstm2", "mine"]}}
    path = write_study(tmp_path, content)
    code, out, error = command("ablate", path, "--out", tmp_path / "x", "--dry-run", "--no-estimate")
    assert code == 2 and "mine" in error
    code, out, error = command(
        "ablate", path, "--out", tmp_path / "x", "--dry-run", "--no-estimate", "--models", own_model
    )
    assert code == 0 and "mine" in out, error
    monkeypatch.setenv("COVID_WORKBENCH_MODELS", str(own_model))
    study = make_study(tmp_path, content)
    (entry,) = study.about["models"]
    assert entry["models"] == ["mine"] and len(entry["sha256"]) == 64
    # somebody else looks at it, without the file
    monkeypatch.delenv("COVID_WORKBENCH_MODELS")
    forget("mine", own_model)
    code, out, _ = command("status", study.folder)
    assert code == 0 and "2 finished" in out
    page = write_report(study.folder, notebook=False).read_text()
    assert f"give --models {own_model}" in page and "0.700" in page
    with pytest.raises(InputError, match="which is not imported by itself: give --models"):
        StudyFolder.open(study.folder).cells[1].experiment()
    with pytest.raises(InputError, match=r"made with own models of .*mine.py \(sha256"):
        prepare_study(Study.from_dict(TINY_STUDY), study.folder, resume=True)
    # a file of that name with other content: said when looking, refused before work goes on
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "mine.py"
    other.write_text(own_model.read_text() + "\n# changed\n")
    code, out, _ = command("status", study.folder, "--models", other)
    assert code == 0 and "made with own models of" in out and "given is" in out
    code, _, error = command("ablate", path, "--out", study.folder, "--resume", "--no-estimate", "--models", other)
    assert code == 2 and "choose another folder" in error
    forget("mine", other)
    code, _, error = command("status", study.folder, "--models", tmp_path / "none.py")
    assert code == 2 and "no such file" in error


def test_a_run_of_an_own_model_names_its_file(tmp_path, own_model, command, monkeypatch, phantom):
    run = tmp_path / "run"
    monkeypatch.setenv("COVID_WORKBENCH_MODELS", str(own_model))
    Run.create(run, tiny(model="mine"), SliceTable.from_csv(phantom / "slices.csv"))
    monkeypatch.delenv("COVID_WORKBENCH_MODELS")
    (entry,) = json.loads((run / "experiment.json").read_text())["record"]["models"]
    assert entry["file"] == str(own_model) and entry["models"] == ["mine"]
    forget("mine", own_model)
    code, _, error = command("evaluate", run)
    assert code == 2 and f"model 'mine' is of {own_model} (sha256 {entry['sha256'][:12]})" in error
    assert f"give --models {own_model}" in error


def toy_cell(folder: Path, code: str, name: str = "toy"):
    "A prepared cell with a notebook of this code, and its caller."
    path = toy_study(folder, [6])
    notebook = nbformat.read(folder / "toy.ipynb", 4)
    notebook.cells[1].source = code
    nbformat.write(notebook, folder / "toy.ipynb")
    study = read_study(path)
    return prepare_study(study, folder / "out").cells[0], caller_of(study, folder / "out")


def test_a_cell_runs_what_its_caller_names(tmp_path, monkeypatch):
    """Not the notebook that its folder names, nor modules that lie in the working folder.

    With a folder for temporary files whose name is too long for a socket, and a link where papermill writes.
    """
    working, long = tmp_path / "working", tmp_path / ("d" * 100)
    for folder in (working, long):
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    (tmp_path / "precious").write_text("mine")
    mark = tmp_path / "ran"
    for name in ("json", "torch", "papermill", "numpy"):
        (working / f"{name}.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()")
    (working / "helper.py").write_text("answer = 42")
    (tmp_path / "neighbour.py").write_text("answer = 43")
    monkeypatch.chdir(working)
    code = (
        "import json, pathlib, numpy, helper, neighbour\nrun = pathlib.Path(folder)\nrun.mkdir(exist_ok=True)\n"
        "figures = {'sum': helper.answer + neighbour.answer, 'size': numpy.zeros(3).size}\n"
        "(run / 'metrics.json').write_text(json.dumps({'figures': figures}))"
    )
    cell, caller = toy_cell(tmp_path, code)
    change(cell.folder / "cell.json", notebook=str(tmp_path / "evil.ipynb"), models=str(working / "torch.py"))
    (cell.folder / "notebook.part.ipynb").symlink_to(tmp_path / "precious")
    state = execute_cell(str(cell.folder), caller, Limits(threads=1))
    assert state["status"] == "finished", state
    assert json.loads((cell.folder / "run" / "metrics.json").read_text())["figures"] == {"sum": 85, "size": 3}
    assert not mark.exists() and (tmp_path / "precious").read_text() == "mine"


def test_logs_do_not_follow_links(tmp_path):
    cell, caller = toy_cell(tmp_path, "pass")
    (tmp_path / "precious").write_text("mine")
    (cell.folder / "log.txt").symlink_to(tmp_path / "precious")
    with pytest.raises(Exception, match="log.txt"):
        execute_cell(str(cell.folder), caller)
    assert (tmp_path / "precious").read_text() == "mine"


EVIL = "<img src=x onerror=alert(1)>"


def test_pages_escape_what_folders_say(tmp_path):
    study = make_study(tmp_path)
    manifest = json.loads((study.folder / "manifest.json").read_text())
    manifest |= {"size": EVIL, "data": EVIL, "target": EVIL, "package": EVIL, "data_fingerprint": {EVIL: EVIL}}
    manifest |= {"record": {EVIL: EVIL}, "settings": {EVIL: EVIL}, "models": [{"file": EVIL, "models": [EVIL]}]}
    manifest["study"] |= {"name": EVIL, "question": EVIL}
    manifest["study"]["tables"][0] |= {"title": f"{EVIL}<!--<script></script>\n\\input{{x}}", "figures": [EVIL]}
    for entry in manifest["cells"]:
        entry["cell"]["name"] = entry["cell"]["labels"]["model"] = f"{EVIL}<!--<script>{entry['key']}"
    (study.folder / "manifest.json").write_text(json.dumps(manifest))
    first, second = (cell.folder for cell in study.cells)
    change(first / "state.json", status="failed", reason=EVIL, host=EVIL)
    (first / "failure.json").write_text(json.dumps({"reason": EVIL, "traceback": EVIL}))
    (second / "run" / "metrics.json").write_text(json.dumps(METRICS | {"notes": [EVIL], "figures": {EVIL: 1.0}}))
    page = write_report(study.folder, notebook=False)
    text = page.read_text()
    body = text[text.index("</head>") :]
    assert EVIL not in body and "<!--" not in body and body.count("<script") == body.count("</script")
    assert "&lt;img src=x onerror=alert(1)&gt;" in body
    lines = [line for path in page.parent.glob("*.tex") for line in path.read_text().splitlines()]
    assert all(line.startswith("%") for line in lines if "\\input" in line)
    change(second / "state.json", status=EVIL)
    assert StudyFolder.open(study.folder).cells[1].status == "damaged"
    assert EVIL not in write_report(study.folder, notebook=False).read_text().split("</head>")[1]


def test_no_code_reaches_a_terminal(tmp_path):
    study = make_study(tmp_path)
    change(study.cells[0].folder / "state.json", status="failed", reason="\x1b[2J\x07 all gone")
    text = "\n".join(status_lines(StudyFolder.open(study.folder)))
    assert "\x1b" not in text and "\x07" not in text and "all gone" in text


def test_plot_text_and_figures():
    import plotly.graph_objects as go

    figure = go.Figure().add_bar(x=["<!--<script>"], y=[1], name="</script>").update_layout(title="</script><!--")
    assert "<!--" not in figure_html(figure) and figure_html(figure).count("</script>") == 1
    assert plot_text("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"


DAMAGES = {
    "half-written state": ("state.json", lambda path: path.write_text('{"status": "fini'), "state.json"),
    "binary state": ("state.json", lambda path: path.write_bytes(os.urandom(200)), "state.json"),
    "state of another kind": ("state.json", lambda path: change(path, attempt="one"), "field 'attempt'"),
    "unknown status": ("state.json", lambda path: change(path, status="done"), "field 'status'"),
    "a folder for a state": ("state.json", lambda path: (path.unlink(), path.mkdir()), "state.json"),
    "no run": ("run", lambda path: shutil.rmtree(path), "run/metrics.json"),
    "no metrics": ("run/metrics.json", lambda path: path.unlink(), "run/metrics.json"),
    "cut metrics": ("run/metrics.json", lambda path: path.write_text(path.read_text()[:40]), "run/metrics.json"),
    "empty metrics": ("run/metrics.json", lambda path: path.write_text(""), "run/metrics.json"),
    "words for numbers": (
        "run/metrics.json",
        lambda path: change(path, test={"classification": SCORES | {"weighted_f1": "high"}}),
        "test.classification.weighted_f1",
    ),
    "NaN": (
        "run/metrics.json",
        lambda path: path.write_text(
            '{"test": {"classification": {"weighted_f1": NaN, "accuracy": 1, "classes": {}}}}'
        ),
        "weighted_f1",
    ),
    "an experiment cut off": ("run/experiment.json", lambda path: path.write_text('{"data": {'), "run/experiment.json"),
    "a newer run": (
        "run/experiment.json",
        lambda path: path.write_text(json.dumps(EXPERIMENT | {"format": 99})),
        "newer version",
    ),
    "cost as a list": ("run/cost.json", lambda path: (ours(path), path.write_text("[]")), "run/cost.json"),
    "binary history": ("run/history.csv", lambda path: (ours(path), path.write_bytes(b"\xff\xfe\x00")), "history.csv"),
    "a cell cut off": ("cell.json", lambda path: path.write_text('{"cell": '), "cell.json"),
}
EXPERIMENT = dict.fromkeys(("data", "detector", "one_shot", "protocol", "training"), {}) | {
    "record": {"data": "", "data_root": ""}
}


def ours(path: Path) -> None:
    "Make the run beside `path` look like one of the workbench."
    (path.parent / "experiment.json").write_text(json.dumps(EXPERIMENT))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_cell_is_one_damaged_cell(tmp_path, command, name):
    file, damage, says = DAMAGES[name]
    study = make_study(tmp_path)
    damage(study.cells[0].folder / file)
    first, second = StudyFolder.open(study.folder).cells
    assert (first.status, second.status) == ("damaged", "finished") and says in first.reason, first.reason
    code, out, _ = command("status", study.folder)
    assert code == 0 and "1 damaged, 1 finished" in out and says in out
    page = write_report(study.folder, notebook=False).read_text()
    assert "0.700" in page and "<b>attention</b> damaged" in page


def test_a_damaged_cell_runs_again_and_nothing_is_lost(tmp_path):
    study = make_study(tmp_path, json.loads(toy_study(tmp_path, [6, 7, 8, 9]).read_text()))
    half, cut, edited, whole = (cell.folder for cell in study.cells)
    (half / "state.json").write_text('{"status": "fini')
    (cut / "run" / "metrics.json").write_text('{"parameters": 1')
    (edited / "cell.json").write_text("[]")
    kept = {path: path.stat().st_mtime_ns for folder in (edited, whole) for path in folder.glob("*/metrics.json")}
    again = runner.run_cells(study.study, study.folder, workers=2, resume=True)
    assert [cell.status for cell in again.cells] == ["finished"] * 4
    assert [cell.state["attempt"] for cell in again.cells] == [1, 2, 1, 1]
    assert (half / "state.json.damaged-1").read_text() == '{"status": "fini'
    assert (cut / "run" / "metrics.json.damaged-1").read_text() == '{"parameters": 1'
    assert len(kept) == 2 and kept == {path: path.stat().st_mtime_ns for path in kept}


def test_a_notebook_that_leaves_broken_scores_ends(tmp_path):
    "It fails, and is not tried for ever."
    toy_cell(
        tmp_path,
        "import pathlib\nrun = pathlib.Path(folder)\nrun.mkdir(exist_ok=True)\n"
        "(run / 'metrics.json').write_text('{\"test\": 5}')",
    )
    done = runner.run_cells(read_study(tmp_path / "study.json"), tmp_path / "out", resume=True, retries=0)
    assert done.cells[0].status == "failed" and done.cells[0].state["attempt"] == 1
    assert "run/metrics.json: field 'test' must be" in done.cells[0].reason


def test_progress_and_failures_that_cannot_be_read(tmp_path):
    from covid_workbench.locks import exclusive

    study = make_study(tmp_path)
    first, second = (cell.folder for cell in study.cells)
    change(first / "state.json", status="failed", reason="no lesion")
    (first / "failure.json").write_text('{"reason": 5}')
    change(second / "state.json", status="running")
    (second / "progress.json").write_text('{"what": {"a": 1}, "done": "x"}')
    with exclusive(second / ".lock"):
        opened = StudyFolder.open(study.folder)
        assert [cell.status for cell in opened.cells] == ["failed", "running"]
        assert "progress.json: field 'what'" in "\n".join(status_lines(opened))
        assert "failure.json: field" in write_report(study.folder, notebook=False).read_text()


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "not valid JSON"),
        ('{"study": ', "not valid JSON"),
        ("[]", "expected an object"),
        ({"cells": None}, "field 'cells'"),
        ({"format": 99}, "newer version"),
        ({"study": {"name": "x"}}, "axes are missing"),
        ({"size": 5}, "field 'size'"),
        ({"cells": [{"cell": {"name": "a"}, "key": "k", "folder": "cells/a"}]}, "cells[0].cell.labels"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path, command, content, says):
    study = make_study(tmp_path)
    if isinstance(content, str):
        (study.folder / "manifest.json").write_text(content)
    else:
        change(study.folder / "manifest.json", **content)
    for words in (("status", study.folder), ("report", study.folder)):
        code, _, error = command(*words)
        assert code == 2 and says in error and "manifest.json" in error and len(error.splitlines()) == 1, error


def test_a_lost_manifest_finds_its_cells_again(tmp_path):
    study = make_study(tmp_path)
    (study.folder / "manifest.json").rename(study.folder / "manifest.json.broken")
    write = prepare_study(Study.from_dict(TINY_STUDY), study.folder)
    assert write.counts == {"finished": 2}


@pytest.mark.parametrize("folder", ["../../elsewhere", "/etc", "cells/../..", "cells", "cells/a/b"])
def test_a_manifest_leads_nowhere_else(tmp_path, folder):
    study = make_study(tmp_path)
    manifest = json.loads((study.folder / "manifest.json").read_text())
    manifest["cells"][0]["folder"] = folder
    (study.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"field 'cells\[0\].folder' must be a folder in cells/"):
        StudyFolder.open(study.folder)


def test_planted_links_in_place_of_cells(tmp_path):
    study = make_study(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cell.json").write_text("precious")
    shutil.rmtree(study.cells[0].folder)
    study.cells[0].folder.symlink_to(elsewhere)
    again = prepare_study(Study.from_dict(TINY_STUDY), study.folder, resume=True)
    assert (elsewhere / "cell.json").read_text() == "precious"
    assert again.counts == {"queued": 1, "finished": 1}


def test_an_older_study_opens(tmp_path):
    "Its manifest has no format, and names files of own models as one word."
    study = make_study(tmp_path)
    manifest = json.loads((study.folder / "manifest.json").read_text())
    del manifest["format"]
    manifest |= {"models": "", "more": "unknown"}
    (study.folder / "manifest.json").write_text(json.dumps(manifest))
    assert StudyFolder.open(study.folder).counts == {"finished": 2}
    assert prepare_study(Study.from_dict(TINY_STUDY), study.folder, resume=True).counts == {"finished": 2}


def test_no_interval_is_a_dash(tmp_path):
    study = make_study(tmp_path)
    scores = {"classification": SCORES | {"f1_interval": [None, None]}}
    (study.cells[0].folder / "run" / "metrics.json").write_text(json.dumps({"test": scores}))
    filled = fill_table(StudyFolder.open(study.folder), study.study.tables[0])
    assert '0.700</b> <span class="spread">–</span>' in table_html(filled) or "–</span>" in table_html(filled)
    assert "0.700" in table_latex(filled) and bar_chart(filled)
    assert "0.700" in write_report(study.folder, notebook=False).read_text()


LABELS = {"model": ["attention", "lstm2"]}
TABLE = {"title": "A", "rows": ["model"], "figures": ["weighted F1"]}
STUDIES = [
    ({"axes": {"a": {"b": []}}}, "must be settings by name"),
    ({"axes": {"model": [["lstm2", {}]]}}, "no value of a setting"),
    ({"axes": {"model": [{"a": 1}]}}, "no value of a setting"),
    ({"axes": {"model": 5}}, "give a list of values"),
    ({"axes": {"model": ""}}, "give a list of values"),
    ({"axes": {"": {"x": {}}}}, "no name of an axis"),
    ({"axes": {"x": {"": {}}}}, "no label"),
    ({"axes": {"x": {"a\nb": {}}}}, "no label"),
    ({"axes": {"x": {"y" * 10_000: {}}}}, "no label"),
    ({"axes": {f"x{n}": {"y" * 150: {}} for n in range(3)}}, "shorter ones"),
    ({"axes": {"x": {"肺": {}, "胸": {"seed": 3}}}}, "two cells are called"),
    ({"axes": LABELS, "name": 5}, "'name' must be text"),
    ({"axes": LABELS, "name": ""}, "1 to 300 characters"),
    ({"axes": LABELS, "name": "a\x1b[2J"}, "1 to 300 characters"),
    ({"axes": LABELS, "name": "n" * 10_000}, "1 to 300 characters"),
    ({"axes": LABELS, "question": ["why"]}, "'question' must be text"),
    ({"axes": LABELS, "notebook": 7}, "'notebook' must be text"),
    ({"axes": LABELS, "target": True}, "'target' must be names with values"),
    ({"grids": [{"axes": LABELS, "target": {"seed": 1}}]}, "'target' must be true or false"),
    ({"axes": LABELS, "skip": ["model"]}, "'skip' must be a list of names"),
    ({"axes": LABELS, "skip": [{"model": "lstm3"}]}, "axis 'model' has no 'lstm3', did you mean 'lstm2'"),
    ({"axes": LABELS, "sizes": {"smok": {"seed": 1}}}, "size 'smok' is unknown, did you mean 'smoke'"),
    ({"axes": LABELS, "sizes": []}, "'sizes' must be"),
    ({"axes": LABELS, "grids": [5]}, "expected names with values"),
    ({"grids": [{"axes": None}]}, "'axes' must be names with values"),
    ({"axes": LABELS, "tables": [5]}, "expected names with values"),
    ({"axes": LABELS, "tables": [TABLE | {"title": ["A"]}]}, "'title' must be text"),
    ({"axes": LABELS, "tables": [TABLE | {"title": "A\n\\input{x}"}]}, "1 to 300 characters"),
    ({"axes": LABELS, "tables": [TABLE | {"rows": [1]}]}, "'rows' must be a list of words"),
    ({"axes": LABELS, "tables": [TABLE | {"figures": [["F1"]]}]}, "'figures' must be a list of words"),
    ({"axes": LABELS, "tables": [TABLE | {"figures": ["weigthed F1"]}]}, "did you mean 'weighted F1'"),
    ({"axes": LABELS, "tables": [TABLE | {"where": {"model": "lstm3"}}]}, "did you mean 'lstm2'"),
    ({"axes": LABELS, "tables": [TABLE | {"where": {"modle": "lstm2"}}]}, "did you mean 'model'"),
    (
        {"axes": LABELS, "tables": [TABLE | {"published": ["lstm-attention-2202", "IV"]}]},
        "did you mean 'lstm-attention",
    ),
    ({"axes": LABELS, "tables": [TABLE | {"published": ["lstm-attention-2022", "V"]}]}, "no published table"),
    ({"axes": LABELS, "tables": [TABLE | {"printed": {"lstm3": "a/b/c/d"}}]}, "no row is called 'lstm3'"),
    ({"axes": LABELS, "tables": [TABLE | {"printed": {"lstm2": "a/b/c/d"}}]}, "no published source"),
    ({"axes": LABELS, "tables": [TABLE | {"printed": {"lstm2": 5}}]}, "'printed' must be labels with words"),
    ({"axes": {name: list(range(1, 1001)) for name in ("seed", "hidden_size", "roi_batch")}}, "at most 10,000"),
    ({"axes": {"seed": [2**53 + 2]}}, "seed"),
    ({"axes": {"seed": [10**400]}}, "seed"),
    ({"axes": LABELS, "settings": {"seed": {"a": 1}}}, "seed"),
]


@pytest.mark.parametrize("content, says", STUDIES)
def test_odd_studies_are_one_sentence(tmp_path, command, content, says):
    path = write_study(tmp_path, {"name": "odd"} | content)
    code, _, error = command("ablate", path, "--out", tmp_path / "out", "--no-estimate")
    assert code == 2 and says in error and len(error.splitlines()) == 1 and len(error) < 1500, error
    assert "\x1b" not in error and not (tmp_path / "out").exists()


def test_deep_and_broken_study_files(tmp_path, command):
    for text in (
        "[" * 200_000,
        '{"name": "a", "axes": ' + '{"a":' * 500 + "{}" + "}" * 501,
        "\x00",
        "[]",
        '{"name": NaN}',
    ):
        (tmp_path / "deep.json").write_text(text)
        code, _, error = command("ablate", tmp_path / "deep.json", "--out", tmp_path / "out")
        assert code == 2 and "deep.json" in error and len(error.splitlines()) == 1, error
    for name in (tmp_path, "", "x" * 5000, "con", "../..", "a\x1b[2J"):
        code, _, error = command("ablate", name, "--out", tmp_path / "out")
        assert code == 2 and "is unknown" in error and "\x1b" not in error and len(error) < 600, error
    os.mkfifo(tmp_path / "pipe.json")
    code, _, error = command("ablate", tmp_path / "pipe.json", "--out", tmp_path / "out")
    assert code == 2 and "pipe" in error


def test_odd_notebooks(tmp_path, command):
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x.ipynb").write_text("no notebook")
    (tmp_path / "b" / "x.ipynb").write_text('{"cells": 5, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    (tmp_path / "c" / "x.ipynb").mkdir()
    os.mkfifo(tmp_path / "d" / "x.ipynb")
    for name in ("a", "b", "c", "d"):
        path = write_study(tmp_path, {"name": "odd", "axes": LABELS, "notebook": str(tmp_path / name / "x.ipynb")})
        code, _, error = command("ablate", path, "--out", tmp_path / "out", "--no-estimate")
        assert code == 2 and "x.ipynb" in error and "notebook" in error and not (tmp_path / "out").exists(), error


@pytest.mark.parametrize(
    "words, says",
    [
        (("--seeds", 10**9), "2,000,000,000 combinations"),
        (("--seeds", 10**30), "more than 10^18"),
        (("--workers", 10**9), "workers=1000000000: give a whole number from 1 to 1,024"),
        (("--threads", 10**9), "threads="),
        (("--threads", -1), "threads=-1"),
        (("--timeout", "nan"), "timeout=nan"),
        (("--timeout", "inf"), "timeout=inf"),
        (("--memory", "nan"), "memory=nan"),
        (("--memory", "-1"), "memory=-1"),
        (("--retries", 10**9), "retries="),
        (("--gpus", ""), "is no GPU"),
        (("--gpus", ","), "is no GPU"),
        (("--gpus", "x"), "is no GPU"),
        (("--gpus", "1,1"), "name each GPU once"),
        (("--gpus", "99"), "no GPU on this machine"),
        (("--data", ""), "--data is empty"),
        (("--data", "/dev/null"), "/dev/null"),
        (("--target", "/nowhere"), "/nowhere"),
        (("--target", "phantom"), "leave --target out"),
        (("--executor", ""), "executor ''"),
        (("--executor", "dask:"), "executor 'dask:'"),
        (("--size", "huge"), "size 'huge'"),
        (("--set", "model=lstm1"), "setting model is an axis"),
        (("--set", "seed=3", "--seeds", 2), "setting seed is an axis"),
        (("--set", "source=x"), "--data"),
        (("--set", f"seed={2**53 + 2}"), "seed"),
    ],
)
def test_odd_options_before_any_work(tmp_path, command, monkeypatch, words, says):
    from covid_workbench.studies import estimate

    def work(*_):
        raise AssertionError("the estimate began")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(estimate, "estimate_cells", work)
    code, _, error = command("ablate", write_study(tmp_path, TINY_STUDY), "--out", tmp_path / "out", *words)
    assert code == 2 and says in error and len(error.splitlines()) == 1, error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [{"seeds": 1.5}, {"seeds": True}, {"seeds": "2"}, {"workers": None}, {"gpus": (1,)}]
)
def test_odd_arguments_from_python(tmp_path, options):
    with pytest.raises(InputError):
        runner.run_cells(Study.from_dict(TINY_STUDY), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_settings_that_replace_a_label_are_said(tmp_path, command):
    content = TINY_STUDY | {"axes": {"width": {"narrow": {"hidden_size": 8}, "wide": {"hidden_size": 16, "seed": 1}}}}
    path = write_study(tmp_path, content | {"tables": []})
    words = ("--dry-run", "--no-estimate", "--set", "hidden_size=8")
    code, out, error = command("ablate", path, "--out", tmp_path / "out", *words)
    assert code == 0 and "hidden_size=8 replaces hidden_size=16 behind width 'wide'" in out, out + error
    assert "narrow'" not in out


def test_odd_places(tmp_path, command):
    path, study = write_study(tmp_path, TINY_STUDY), make_study(tmp_path)
    (tmp_path / "file").write_text("mine")
    for out, says in (
        (tmp_path / "file", "is a file"),
        (study.folder / "cells" / "more", "is inside the study"),
        (tmp_path / os.fsdecode(b"caf\xe9"), "not printable text"),
        (tmp_path / "a\nb", "not printable text"),
        (tmp_path, "is not a study"),
    ):
        before = sorted(tmp_path.rglob("*"))
        code, _, error = command("ablate", path, "--out", out, "--no-estimate")
        assert code == 2 and says in error and sorted(tmp_path.rglob("*")) == before, error
    assert (tmp_path / "file").read_text() == "mine"
    for odd in (tmp_path / os.fsdecode(b"caf\xe9"), tmp_path / "file", tmp_path / "none"):
        for name in ("status", "report"):
            assert command(name, odd)[0] == 2


def test_without_papermill_nothing_begins(tmp_path, command, monkeypatch):
    study = make_study(tmp_path)
    monkeypatch.setitem(sys.modules, "papermill", None)
    path = write_study(tmp_path, TINY_STUDY)
    code, _, error = command("ablate", path, "--out", tmp_path / "out")
    assert code == 2 and "needs papermill" in error and not (tmp_path / "out").exists()
    code, _, error = command("report", study.folder)
    assert code == 2 and "needs papermill" in error and not (study.folder / "report").exists()
    assert command("report", study.folder, "--no-notebook")[0] == 0


def test_a_cell_prepared_by_nobody(tmp_path):
    cell, caller = toy_cell(tmp_path, "pass")
    (cell.folder / "cell.json").write_text("{}")
    assert damage_of(cell.folder)[0] == "cell.json" and read_state(cell.folder)["status"] == "damaged"
    with pytest.raises(InputError, match="continue it with --resume"):
        execute_cell(str(cell.folder), Caller(caller.notebook))


@pytest.mark.parametrize("status, says", [("failed", "why was not recorded"), ("interrupted", "process is gone")])
def test_a_reason_that_is_missing_is_not_made_up(tmp_path, status, says):
    cell = StudyFolder.open(prepare_study(Study.from_dict(TINY_STUDY), tmp_path / "out").folder).cells[0]
    (cell.folder / "state.json").write_text(json.dumps({"status": status, "attempt": 1}))
    assert says in StudyFolder.open(tmp_path / "out").cells[0].reason


@pytest.mark.parametrize("name, build", [("", dict), ("../x", dict), (None, dict), ("a" * 65, dict), ("mine", None)])
def test_a_model_without_a_name_or_a_builder_is_no_model(name, build):
    with pytest.raises(InputError, match="model"):
        zoo.register_model(name, build, description="none")


def test_a_cluster_that_does_not_answer_leaves_no_study(tmp_path, monkeypatch):
    def away(*_):
        raise InputError("no scheduler answers")

    monkeypatch.setattr(runner, "workers_of", away)
    with pytest.raises(InputError, match="no scheduler"):
        runner.run_cells(Study.from_dict(TINY_STUDY), tmp_path / "out", executor="dask:tcp://127.0.0.1:1")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("dead", [1, 99])
def test_a_worker_that_dies_while_its_cluster_starts_is_no_fault_of_ours(monkeypatch, dead):
    "Dask gives up a whole cluster for it: another one is started, and what never starts is said."
    import distributed

    from covid_workbench.studies.workers import workers_of

    begun, started = [], distributed.LocalCluster

    def cluster(**options):
        begun.append(options)
        if len(begun) <= dead:
            raise RuntimeError("Nanny failed to start.")
        return started(**options)

    monkeypatch.setattr(distributed, "LocalCluster", cluster)
    if dead == 1:
        with workers_of("dask", 1) as pool:
            assert pool.submit(int, "7").result(timeout=60) == 7 and len(begun) == 2
    else:
        with pytest.raises(StorageError, match=r"no workers start .*Nanny.*--executor local"), workers_of("dask", 1):
            pass
