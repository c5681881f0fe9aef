"""The package without notebook tooling, the notebooks without outputs, papermill with its parameters."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import assignments, tiny

import covid_workbench
from covid_workbench.errors import InputError, WorkbenchError
from covid_workbench.headless import NotebookError, execute_notebook, study_notebook
from covid_workbench.runs.experiment import PRESETS, Experiment

ROOT = Path(covid_workbench.__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
TOOLING = (
    "nbdev",
    "fastcore",
    "papermill",
    "IPython",
    "ipywidgets",
    "ipykernel",
    "jupyterlab",
    "nbformat",
    "nbconvert",
    "anywidget",
    "psutil",
    "distributed",
    "pytest",
)


def test_every_module_imports_without_notebook_tooling():
    code = f"""
import sys, pkgutil, importlib
for name in {TOOLING!r}: sys.modules[name] = None
import covid_workbench
for module in pkgutil.walk_packages(covid_workbench.__path__, "covid_workbench."):
    if not module.name.endswith("_modidx") and not module.name.startswith("covid_workbench.widgets."):
        importlib.import_module(module.name)
from covid_workbench.cli import main
sys.exit(main(["settings"]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert found.returncode == 0 and "roi_batch" in found.stdout, found.stderr[-2000:]


def test_no_network_and_no_compiler_on_import():
    code = """
import socket
def no(*a, **k): raise AssertionError('network')
socket.socket.connect = no
import covid_workbench.api, covid_workbench.demo
"""
    assert subprocess.run([sys.executable, "-c", code], cwd="/").returncode == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_results(path):
    "What a notebook shows could be a patient's slice; results belong to runs."
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.source[:80]
    assert set(notebook.metadata) <= {"kernelspec"}, notebook.metadata


def test_cleaning_keeps_the_parameters_tag(tmp_path):
    shutil.copy(ROOT / "settings.ini", tmp_path)
    (tmp_path / "nbs" / "studies").mkdir(parents=True)
    copy = tmp_path / "nbs" / "studies" / "one_run.ipynb"
    shutil.copy(study_notebook("one_run"), copy)
    subprocess.run([str(Path(sys.executable).parent / "nbdev_clean"), "--fname", str(copy)], cwd=tmp_path, check=True)
    tagged = [cell for cell in nbformat.read(copy, 4).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and "preset" in tagged[0].source


def test_a_misspelt_parameter_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match="presett.*preset"):
        execute_notebook(study_notebook("one_run"), tmp_path / "out.ipynb", {"presett": "smoke"}, progress=False)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="one_walk"):
        study_notebook("one_walk")


def test_one_run_executes_headless(tmp_path):
    settings = dict(word.split("=") for word in assignments(model="lstm1"))
    done = execute_notebook(
        study_notebook("one_run"),
        tmp_path / "out.ipynb",
        {"preset": "smoke", "settings": settings, "folder": str(tmp_path / "run"), "shared": str(tmp_path / "shared")},
        progress=False,
    )
    notebook = nbformat.read(done, 4)
    kinds = {
        kind
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.get("data", {})
    }
    assert {"text/html", "application/vnd.plotly.v1+json"} <= kinds
    assert "application/vnd.jupyter.widget-view+json" not in kinds and "widgets" not in notebook.metadata
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["classification"]["n"] > 0
    assert Experiment.from_json(tmp_path / "run" / "experiment.json") == tiny(model="lstm1")
    assert done.stat().st_size < 3e6 and not list(tmp_path.glob("*.part*"))


def test_a_failing_cell_is_one_sentence(tmp_path):
    with pytest.raises(NotebookError) as caught:
        execute_notebook(
            study_notebook("one_run"),
            tmp_path / "out.ipynb",
            {"preset": "smoke", "settings": {"backbone": "resnet81"}},
            progress=False,
        )
    assert "resnet81" in str(caught.value) and "resnet18" in str(caught.value) and "\n" not in str(caught.value)
    assert (
        not (tmp_path / "out.ipynb").exists()
        and caught.value.exit_code == 1
        and isinstance(caught.value, WorkbenchError)
    )


def test_a_dead_kernel_is_no_result(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("code = 9", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import os; os._exit(code)"),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    )
    nbformat.write(notebook, tmp_path / "dies.ipynb")
    with pytest.raises(NotebookError):
        execute_notebook(tmp_path / "dies.ipynb", tmp_path / "out.ipynb", {"code": 3}, progress=False)
    assert not (tmp_path / "out.ipynb").exists()


def test_one_experiment_from_python_json_shell_and_notebook_alike(tmp_path):
    wanted = Experiment.make("small", backbone="resnet34", roi_batch=12, anchor_sizes=(4, 8), flips=False)
    (tmp_path / "flat.json").write_text(
        json.dumps(
            {"preset": "small", "backbone": "resnet34", "roi_batch": "12", "anchor_sizes": [4, 8], "flips": "false"}
        )
    )
    (tmp_path / "groups.json").write_text(wanted.to_json())
    assert Experiment.from_json(tmp_path / "flat.json") == wanted
    assert Experiment.from_json(tmp_path / "groups.json") == wanted
    assert Experiment.make("small", backbone="resnet34", roi_batch="12", anchor_sizes="4,8", flips="no") == wanted
    for preset in PRESETS:
        one = Experiment.make(preset)
        assert one.replace() == one and one.replace(seed=1) != one


def test_requirements_are_listed_once():
    "setup.py and the lock take them from settings.ini."
    lock = (ROOT / "requirements.lock").read_text()
    settings = (ROOT / "settings.ini").read_text()
    names = [
        word for line in settings.splitlines() if "requirements =" in line for word in line.split("=", 1)[1].split()
    ]
    assert len(names) > 15
    for word in names:
        name = word.split(">")[0].split("=")[0].lower()
        assert f"\n{name}==" in "\n" + lock, name
    assert lock.count("--hash=sha256:") > 500 and "://" not in lock
    assert os.path.getsize(ROOT / "README.md") > 2000
