"""A Python as other systems have it, without `fcntl`, `resource` and `fork`, and what the project says of itself."""

import configparser
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from conftest import assignments

import covid_workbench
from covid_workbench import locks
from covid_workbench.errors import InputError

ROOT = Path(__file__).parents[1]
# Windows has none of these; kernels and cells, which start by themselves, lack them too
ELSEWHERE = """
import multiprocessing, multiprocessing.context, os, select, sys, warnings
import psutil  # which needs `resource` on Linux only
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
for name in ("fork", "pread", "preadv", "O_NOFOLLOW", "O_NONBLOCK", "sysconf", "geteuid", "sched_getaffinity"):
    hasattr(os, name) and delattr(os, name)
select.__dict__.pop("poll", None)
multiprocessing.get_all_start_methods = multiprocessing.context.DefaultContext.get_all_start_methods = (
    lambda *given: ["spawn"]
)
multiprocessing.context._concrete_contexts.pop("fork")
multiprocessing.context._concrete_contexts.pop("forkserver")
warnings.filterwarnings("ignore", category=EncodingWarning)
warnings.filterwarnings("error", category=EncodingWarning, module="covid_workbench")
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    "Run a program in that Python, in a folder of its own: `run(code)` gives the process, `run.folder` the folder."
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(ELSEWHERE)
    (folder / "work").mkdir()
    variables = {"PYTHONPATH": str(folder / "site"), "PYTHONWARNDEFAULTENCODING": "1", "OMP_NUM_THREADS": "1"}

    def run(code: str) -> subprocess.CompletedProcess:
        words = [sys.executable, "-c", code]
        return subprocess.run(
            words, env=os.environ | variables, cwd=folder / "work", capture_output=True, text=True, timeout=1200
        )

    run.folder = folder / "work"
    return run


PATHS = """
import importlib, os, pkgutil, sys
from pathlib import Path
import covid_workbench
from covid_workbench.cli import main
assert not hasattr(os, "fork") and sys.modules["fcntl"] is None
for module in pkgutil.walk_packages(covid_workbench.__path__, "covid_workbench."):
    module.name.endswith("_modidx") or importlib.import_module(module.name)
assert main(["train", "run", "--preset", "smoke", "--set", *{settings!r}]) == 0
assert main(["evaluate", "run"]) == 0
assert main(["predict", "run", str(next(Path("shared").rglob("*.png"))), "--out", "answers"]) == 0
assert main(["lab", "run", "--dry-run"]) == 0
assert main(["train", "other", "--preset", "smoke", "--set", *{settings!r}, "workers=2"]) == 2
"""
FEW = dict(model="attention", threads=1, detector_epochs=0.3, aggregator_epochs=0.3, epochs=0.3)


def test_all_is_imported_trained_scored_and_answered(elsewhere):
    done = elsewhere(PATHS.format(settings=assignments(**FEW)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "set workers=0" in done.stderr and "Traceback" not in done.stderr
    assert "this Python can lock no files" in done.stderr


def test_a_study_is_estimated_and_run(elsewhere):
    study = {"name": "small", "question": "which?", "axes": {"model": ["attention"]}}
    (elsewhere.folder / "study.json").write_text(json.dumps(study))
    settings = assignments(**{name: value for name, value in FEW.items() if name != "model"})
    words = ["ablate", "study.json", "--out", "study", "--no-notebook", "--set", *settings]
    done = elsewhere(f"from covid_workbench.cli import main; raise SystemExit(main({words!r}))")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    assert "Estimate: about" in done.stdout and "nan" not in done.stdout


def test_locks_of_windows(tmp_path, monkeypatch):
    "The same two functions over `msvcrt`, whose one call is played here."
    holders: dict[str, int] = {}

    def locking(descriptor: int, mode: int, length: int) -> None:
        assert (mode, length) == (2, 1) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        held = holders.get(name)
        if held is not None and held != descriptor and os.path.exists(f"/proc/self/fd/{held}"):
            raise PermissionError(13, "Permission denied")
        holders[name] = descriptor

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    path = tmp_path / ".lock"
    with locks.exclusive(path):
        assert locks.is_held(path)
        with pytest.raises(InputError, match="another process is at work"), locks.exclusive(path, wait=0.3):
            pass
    assert not locks.is_held(path)
    with locks.exclusive(path):
        pass


def test_the_memory_of_a_process_and_of_the_machine_without_resource(monkeypatch):
    import psutil  # noqa: F401 - which needs `resource` on Linux only

    from covid_workbench.models import sizes

    most, there = sizes.largest_memory(), sizes.machine_memory()
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr(os, "sysconf")
    assert 0.2 * most < sizes.largest_memory() <= 1.5 * most
    assert sizes.machine_memory() == pytest.approx(there, rel=0.01)
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert sizes.largest_memory() != sizes.largest_memory() and sizes.machine_memory() == 2**60


def test_what_is_said_of_pythons_and_systems_agrees():
    settings = configparser.ConfigParser(delimiters=["="], interpolation=None)
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    settings = settings["DEFAULT"]
    words = [sys.executable, "setup.py", "-q", "--classifiers", "--version"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout
    pythons = re.findall(r"Python :: (3\.\d+)", said)
    assert pythons == ["3.11", "3.12", "3.13"] and settings["min_python"] == pythons[0]
    for system in ("POSIX :: Linux", "MacOS", "Microsoft :: Windows"):
        assert f"Operating System :: {system}" in said
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"python{version}" in makefile for version in pythons) and "(3, 11) <= sys" in makefile
    version = settings["version"]
    assert version == covid_workbench.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {version}\n" in citation and "license: Apache-2.0" in citation
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for text in ("README.md", "CONTRIBUTING.md"):
        assert "3.13" in (ROOT / text).read_text(encoding="utf-8"), text
