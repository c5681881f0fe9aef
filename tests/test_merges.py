"""Merges of notebooks: the driver works without an activated environment, and what it leaves behind is seen."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PLAIN = "/usr/local/bin:/usr/bin:/bin"  # no environment is activated


def write(path: Path, *sources: str) -> None:
    cells = [nbformat.v4.new_code_cell(source, id=f"cell{number}") for number, source in enumerate(sources)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1) + "\n")


@pytest.fixture
def clone(tmp_path):
    "A repository with a notebook in which two branches changed the same cell."
    here = {"cwd": tmp_path / "clone", "env": {"PATH": PLAIN, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}}
    (tmp_path / "clone").mkdir()

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(words, capture_output=True, text=True, **here)

    def commit(*sources: str) -> None:
        write(here["cwd"] / "nbs" / "guides" / "a.ipynb", *sources)
        run("git", "add", "-A")
        assert run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a").returncode == 0

    for name in ("Makefile", "settings.ini"):
        shutil.copy(ROOT / name, here["cwd"])
    write(here["cwd"] / "nbs" / "a.ipynb", "same = 1")
    run("git", "init", "-q", "-b", "main")
    commit("same = 1", "x = 1")
    run("git", "checkout", "-qb", "other")
    commit("same = 1", "x = 2")
    run("git", "checkout", "-q", "main")
    commit("same = 1", "x = 3")
    return here["cwd"], run


def make(run, target: str) -> subprocess.CompletedProcess:
    "`make` with the environment of these tests, which is taken as it is."
    return run("make", "-s", "-o", f"{BIN}/.stamp", target, f"BIN={BIN}")


def test_what_the_driver_leaves_in_backticks_fails_the_check(clone):
    folder, run = clone
    assert make(run, "conflicts").returncode == 0
    done = make(run, "hooks")
    assert done.returncode == 0, done.stderr
    assert run("git", "-c", "user.name=a", "-c", "user.email=a@b", "merge", "-q", "other").returncode
    text = (folder / "nbs" / "guides" / "a.ipynb").read_text()
    sources = ["".join(cell["source"]) for cell in json.loads(text)["cells"]]  # a notebook all the same
    assert "`<<<<<<< HEAD`" in sources and {"x = 2", "x = 3"} <= set(sources)
    done = make(run, "conflicts")
    assert done.returncode and "nbs/guides/a.ipynb" in done.stdout and "conflict markers" in done.stdout
    assert "make -s conflicts" in run("make", "-n", "-o", f"{BIN}/.stamp", "sync", f"BIN={BIN}").stdout


@pytest.mark.parametrize(
    "line",
    ["`=======`", "`>>>>>>> theirs`", "<<<<<<< HEAD", ">>>>>>> theirs"],
    ids=["middle", "end", "bare", "end bare"],
)
def test_a_marker_that_is_left_alone_fails_the_check(clone, line):
    folder, run = clone
    write(folder / "nbs" / "a.ipynb", line)
    assert make(run, "conflicts").returncode


def test_markers_of_git_itself_and_words_about_them(clone):
    folder, run = clone
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "merge", "-q", "other")  # no driver
    assert "\n=======\n" in (folder / "nbs" / "guides" / "a.ipynb").read_text()
    assert make(run, "conflicts").returncode
    write(folder / "nbs" / "guides" / "a.ipynb", 'about = "<<<<<<< HEAD"', "a = b  # ====== c", "# =======")
    assert make(run, "conflicts").returncode == 0


def test_hooks_of_nbdev_get_their_full_path(clone):
    folder, run = clone
    hook = folder / ".git" / "hooks" / "post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/bash\nnbdev_trust")
    (folder / ".gitconfig").write_text('[merge "nbdev-merge"]\n\tdriver = nbdev_merge %O %A %B %P\n')
    run("git", "config", "--local", "include.path", "../.gitconfig")
    assert make(run, "hooks").returncode == make(run, "hooks").returncode == 0
    assert str(BIN / "nbdev_trust") in hook.read_text()
    assert str(BIN) in run("git", "config", "merge.nbdev-merge.driver").stdout
    attributes = (folder / ".git" / "info" / "attributes").read_text()
    assert attributes.count("merge=nbdev-merge") == 1
    hook.write_text("#!/bin/sh\necho mine\n")
    assert make(run, "hooks").returncode == 0 and "mine" in hook.read_text()
