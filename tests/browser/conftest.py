"""Runs, a page on JupyterLab, and a picture of it where a browser test failed."""

import subprocess

import pytest
from lab import ROOT, Lab, Server, chromium


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    "Three small runs, made in the project's own environment."
    folder = tmp_path_factory.mktemp("runs")
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
from conftest import tiny
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.training.train import train
for model in ("lstm2", "attention", "classifier"):
    evaluate(train(tiny(model=model, phantom_slices=4), f"{folder}/{{model}}", progress=False), progress=False)
"""
    subprocess.run([str(ROOT / ".venv/bin/python"), "-c", code], check=True)
    return folder


@pytest.fixture(scope="session")
def lesion_run(tmp_path_factory):
    "A detector that finds some of the phantom's lesions, on volumes of five slices."
    folder = tmp_path_factory.mktemp("lesions") / "detector"
    code = f"""
from covid_workbench.runs.experiment import Experiment
from covid_workbench.training.train import train
settings = dict(phantom_patients=15, phantom_slices=5, model="mask-rcnn", objects="lesions", detector_epochs=12)
train(Experiment.make("smoke", threads=2, **settings), {str(folder)!r}, progress=False)
"""
    subprocess.run([str(ROOT / ".venv/bin/python"), "-c", code], check=True)
    return folder


@pytest.fixture(scope="session")
def volume_run(tmp_path_factory):
    "A run of ResNext+ on phantom volumes of twelve slices, of which eight are read."
    folder = tmp_path_factory.mktemp("volumes") / "resnext-plus"
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
from conftest import tiny
from covid_workbench.evaluation.evaluate import evaluate
from covid_workbench.training.train import train
slices = dict(phantom_slices=12, volume_slices=8, backbone="resnet18", cut="layer2")
evaluate(train(tiny(model="resnext-plus", **slices), {str(folder)!r}, progress=False), progress=False)
"""
    subprocess.run([str(ROOT / ".venv/bin/python"), "-c", code], check=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def lab(tmp_path, browser):
    """A page on a JupyterLab of its own; afterwards nothing was asked of other servers and nothing went wrong in the
    page.
    """
    server = Server(tmp_path)
    page = Lab(server, browser)
    try:
        yield page
        assert page.trouble == [] and page.outside == set()
    finally:
        page.context.close()
        server.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if call.when == "call" and call.excinfo and lab:
        path = lab.server.folder.parent / "failed.png"
        lab.page.screenshot(path=path)
        outcome.get_result().sections.append(("page", f"{path}\n{lab.trouble}"))
