"""The wheel and the sdist in environments of their own: what they hold, what runs, what an extra is asked for."""

import json
import tarfile
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from conftest import assignments
from packages_kit import Installed, build, copy_checkout, lay_distributions, needed
from test_package import TOOLING

ROOT = Path(__file__).parents[1]
FEW = dict(model="attention", threads=1, detector_epochs=0.3, aggregator_epochs=0.3, epochs=0.3)
STUDY = {"name": "small", "question": "which?", "axes": {"model": ["attention", "lstm1"]}}
VOLUME_TOOLS = ("pydicom", "gdcm", "highdicom", "nibabel")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    "The sdist of a checkout without git, the wheel built from that sdist, and one built from the checkout."
    folder = tmp_path_factory.mktemp("built")
    copy_checkout(ROOT, folder / "checkout")
    sdist = build("sdist", folder / "checkout", folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    names = {"wheel": unpacked, "direct": folder / "checkout"}
    return {"sdist": sdist} | {name: build("wheel", source, folder / name) for name, source in names.items()}


def installed(built: dict[str, Path], folder: Path, *extras: str) -> Installed:
    "An empty environment with the wheel and the distributions that its metadata ask for, and no others."
    env = Installed.make(folder / "env", built["wheel"])
    lay_distributions(needed(Distribution.at(env.metadata), extras), env.site)
    env.work.mkdir()
    return env


@pytest.fixture(scope="module")
def plain(built, tmp_path_factory) -> Installed:
    return installed(built, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def with_notebooks(built, tmp_path_factory) -> Installed:
    return installed(built, tmp_path_factory.mktemp("notebook"), "notebook")


def test_the_wheel_of_the_sdist_holds_all_that_runs(built):
    held, direct = (set(zipfile.ZipFile(built[name]).namelist()) for name in ("wheel", "direct"))
    assert held == direct
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "covid_workbench").rglob("*") if path.is_file()}
    assert {name for name in ours if "__pycache__" not in name} <= held
    notebooks = [*(ROOT / "nbs" / "studies").glob("*.ipynb"), *(ROOT / "nbs" / "explore").glob("*.ipynb")]
    assert len(notebooks) > 6
    assert {f"covid_workbench/notebooks/{path.name}" for path in notebooks} <= held


WITHOUT = """
import importlib, importlib.util, pkgutil, sys
from pathlib import Path
import covid_workbench
from covid_workbench.cli import main
assert Path(covid_workbench.__file__).is_relative_to(sys.prefix), covid_workbench.__file__
tools = [name for name in {tools!r} if importlib.util.find_spec(name)]
assert not tools, tools
for module in pkgutil.walk_packages(covid_workbench.__path__, "covid_workbench."):
    if not module.name.startswith("covid_workbench.widgets.") and not module.name.endswith("_modidx"):
        importlib.import_module(module.name)
assert main(["models"]) == 0
assert main(["train", "run", "--preset", "smoke", "--set", *{settings!r}]) == 0
assert main(["evaluate", "run"]) == 0
picture = str(next(Path("shared").rglob("*.png")))
assert main(["predict", "run", picture, "--out", "answers"]) == 0
assert Path("answers/predictions.json").is_file()
"""


@pytest.fixture(scope="module")
def trained(plain) -> Path:
    "A run of the wheel without notebook tooling, which imported all of its modules, scored and answered."
    settings = assignments(**FEW)
    done = plain.python(WITHOUT.format(tools=(*TOOLING, *VOLUME_TOOLS), settings=settings))
    assert done.returncode == 0, done.stderr[-2000:]
    return plain.work / "run"


def test_without_notebook_tooling_it_trains_scores_and_answers(plain, trained):
    assert (trained / "metrics.json").is_file()
    help_text = plain.command("--help")
    assert help_text.returncode == 0 and "predict" in help_text.stdout


def refused(env: Installed, lines: list[list[str]]) -> list[str]:
    "What commands say that end in exit code 2 without having written anything."
    code = f"""
import contextlib, io, json, sys
from pathlib import Path
from covid_workbench.cli import main
said, before = [], sorted(map(str, Path().rglob("*")))
for words in {lines!r}:
    with contextlib.redirect_stderr(io.StringIO()) as text, contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    assert code == 2, (words, code, text.getvalue())
    assert sorted(map(str, Path().rglob("*"))) == before, words
    said.append(text.getvalue())
print(json.dumps(said))
"""
    done = env.python(code)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_missing_extra_is_named_before_any_work(plain, trained):
    (plain.work / "study.json").write_text(json.dumps(STUDY))
    (plain.work / "scans" / "one").mkdir(parents=True)
    (plain.work / "scans" / "one" / "a.dcm").write_bytes(bytes(128) + b"DICM")
    (plain.work / "one.nii").write_bytes(bytes(352))
    asked = {
        "notebook": [
            ["lab", "run", "--dry-run"],
            ["lab", "run", "--no-browser", "--allow-root"],
            ["ablate", "study.json", "--out", "study", "--dry-run"],
            ["ablate", "study.json", "--out", "study"],
            ["demo", "--out", "demo", "--preset", "smoke"],
        ],
        "volumes": [
            ["predict", "run", "scans", "--out", "more"],
            ["predict", "run", "one.nii", "--out", "more"],
            ["train", "other", "--preset", "smoke", "--data", "scans"],
            ["data", "check", "scans"],
        ],
    }
    for extra, lines in asked.items():
        for words, said in zip(lines, refused(plain, lines)):
            assert f"covid_workbench[{extra}]" in said and said.count("\n") == 1 and "Traceback" not in said, (
                words,
                said,
            )


WITH = """
import importlib, json, pkgutil, sys
from covid_workbench import widgets
from covid_workbench.cli import main
for module in pkgutil.iter_modules(widgets.__path__, "covid_workbench.widgets."):
    importlib.import_module(module.name)
assert main(["lab", {run!r}, "--dry-run"]) == 0
assert main(["ablate", {study!r}, "--out", "study", "--dry-run", "--set", *{settings!r}]) == 0
"""


def test_with_notebook_tooling_explorers_and_studies_begin(with_notebooks, plain, trained):
    study = plain.work / "study.json"
    study.write_text(json.dumps(STUDY))
    done = with_notebooks.python(WITH.format(run=str(trained), study=str(study), settings=assignments(threads=1)))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "attention.ipynb" in done.stdout and "jupyterlab" in done.stdout and "Estimate: about" in done.stdout
    assert not list(with_notebooks.work.iterdir())
    [said] = refused(with_notebooks, [["ablate", str(study), "--out", "study", "--executor", "dask", "--no-estimate"]])
    assert "covid_workbench[cluster]" in said and "dask" in said
