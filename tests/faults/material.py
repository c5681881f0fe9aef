"""Small reference material, built once: data, two runs, a study, and what every command makes of them untouched."""

import contextlib
import csv
import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import TINY, assignments

from .base import Check, Outcome, Try, short
from .child import command, run_try

SETTINGS = TINY | dict(phantom_patients=12, detector_epochs=0.4, aggregator_epochs=1, threads=1, device="cpu")
RUN_FILES = (
    "metrics.json",
    "predictions.csv",
    "cost.json",
    "checked.json",
    ".lock",
    "log.txt",
)  # what evaluation writes


def settings(**more: object) -> list[str]:
    "Settings of a training of half a second, as words for --set."
    return assignments(**SETTINGS | more)


def _in_child(scratch: Path, run) -> None:
    "Run a function in a child; raises with its output if it fails."
    for name in ("cwd", "tmp", "home"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    outcome = run_try(Try([], limit=300), scratch, run)
    if outcome.code != 0:
        raise RuntimeError(f"the reference material could not be made: {outcome.out}{outcome.err}")
    shutil.rmtree(scratch / ".output")


class Material:
    "Reference material under `root`; `results` are those of untouched copies, by name of the command."

    def __init__(self, root: Path):
        self.root, self.results = root, {}
        if not (root / "world").exists():
            self._build()
        for name in json.loads((root / "modules.json").read_text()):  # what commands import late, for every child
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def _build(self) -> None:
        build = self.root / "build"

        def make(words: Sequence[str]) -> int:
            _make_world(build)
            modules = [name for name in sys.modules if not name.startswith(("tests", "faults", "_pytest", "conftest"))]
            (self.root / "modules.json").write_text(json.dumps(modules))
            return 0

        _in_child(build, make)
        build.rename(self.root / "world")  # the runs find their data beside them, not where they were

    def reference(self, name: str, words_of) -> object:
        "What a command makes of untouched material: `words_of` a world; computed once."
        if name not in self.results:
            scratch = self.root / f"reference-{name}"
            shutil.rmtree(scratch, ignore_errors=True)
            one = words_of(World(self, scratch, Random(0)))
            outcome = run_try(one, scratch)
            if outcome.code != 0:
                raise RuntimeError(f"{name} fails on untouched material: {outcome.out}{outcome.err}")
            self.results[name] = RESULTS[name](outcome)
            shutil.rmtree(scratch)
        return self.results[name]


def _make_world(build: Path) -> None:
    "Data, an evaluated warm-start run, another one, and a study whose cells are finished, failed and queued."
    data = build / "data"
    _do("phantom", data, "--patients", 12, "--slices", 2, "--size", 64)
    for name, model in (("run", "attention"), ("other", "lstm1")):
        _do("train", build / name, "--preset", "smoke", "--data", data, "--set", *settings(model=model))
        _do("evaluate", build / name)
    _make_study(build / "study")


def _do(*words: object) -> None:
    if code := command([str(word) for word in words]):
        raise SystemExit(code)


STUDY = {
    "name": "tiny",
    "question": "Does it hold?",
    "axes": {"model": ["attention", "lstm1", "lstm2", "affinity"]},
    "settings": SETTINGS,
    "tables": [{"title": "Slices", "rows": ["model"], "figures": ["weighted F1", "AP@0.5"]}],
}


def _make_study(out: Path) -> None:
    "Two cells as their notebooks leave them, one that failed, one that was never started."
    from covid_workbench.studies.prepare import prepare_study
    from covid_workbench.studies.state import write_state
    from covid_workbench.studies.study import Study

    (out.parent / "study.json").write_text(json.dumps(STUDY, default=list))
    folder = prepare_study(Study.from_dict(json.loads((out.parent / "study.json").read_text())), out)
    begun = {"attempt": 1, "started": 1.7e9, "host": "here", "gpu": None, "spent": 61.5, "starts": [1.7e9]}
    for cell in folder.cells[:2]:
        parameters = json.loads((cell.folder / "cell.json").read_text())["parameters"]
        train_words = ["train", cell.folder / "run", "--preset", "smoke", "--set", *settings(**cell.labels)]
        _do(*train_words)
        _do("evaluate", cell.folder / "run")
        shutil.move(cell.folder / "shared", parameters["shared"]) if not Path(parameters["shared"]).exists() else None
        shutil.rmtree(cell.folder / "shared", ignore_errors=True)
        _mend_paths(cell.folder / "run", Path(parameters["shared"]))
        write_state(cell.folder, begun | {"status": "finished"})
    failed = folder.cells[2].folder
    write_state(failed, begun | {"status": "failed", "reason": "no lesion in patient P7"})
    (failed / "failure.json").write_text(json.dumps({"reason": "no lesion in patient P7", "traceback": "Line 1"}))


def _mend_paths(run: Path, shared: Path) -> None:
    "Name the shared folder of the study in a run that was trained with one beside it."
    for name, key in (("warm_start.json", "detector"), ("experiment.json", "data_beside")):
        content = json.loads((run / name).read_text())
        part = content.get("record", content)
        part[key] = part[key].replace("../shared", str(Path("../../../shared") / shared.name))
        (run / name).write_text(json.dumps(content, indent=1))


class World:
    "The scratch folder of a try; parts of the reference material are copied into it when a rule asks for them."

    def __init__(self, material: Material, scratch: Path, chance: Random):
        self.material, self.scratch, self.chance = material, scratch, chance
        for name in ("cwd", "tmp", "home", "world"):
            (scratch / name).mkdir(parents=True)
        self.canary = scratch / "canary.png"
        self.canary.write_text("mine")

    @property
    def out(self) -> Path:
        return self.scratch / "out"

    def _copy(self, *names: str) -> Path:
        for name in names:
            source, target = self.material.root / "world" / name, self.scratch / "world" / name
            if not target.exists():
                (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return self.scratch / "world" / names[0]

    @property
    def data(self) -> Path:
        return self._copy("data")

    @property
    def run(self) -> Path:
        "An evaluated warm-start run of attention, with its data and its detector."
        return self._copy("run", "data", "shared")

    @property
    def other(self) -> Path:
        "An evaluated run of lstm1."
        return self._copy("other", "data", "shared")

    @property
    def study(self) -> Path:
        return self._copy("study")

    @property
    def picture(self) -> Path:
        return sorted(self.data.glob("NCP/*/*/*.png"))[0]

    def same(self, name: str) -> Check:
        "Exit 0 is right where the result is that of the untouched input."
        wanted = self.material.reference(name, COMMANDS[name])

        def check(outcome: Outcome) -> str:
            try:
                found = RESULTS[name](outcome)
            except (OSError, ValueError, KeyError) as error:
                return f"the result cannot be read: {error}"
            return "" if found == wanted else f"wrong figure: {_difference(found, wanted)}"

        return check


def _difference(found: object, wanted: object, where: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted({*found, *wanted}, key=str):
            if found.get(name) != wanted.get(name):
                return _difference(found.get(name), wanted.get(name), f"{where}/{name}")
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for at, (one, other) in enumerate(zip(found, wanted)):
            if one != other:
                return _difference(one, other, f"{where}/{at}")
    return f"{where} is {short(found, 120)}, not {short(wanted, 120)}"


def train_words(world: World, *more: object, **changes: object) -> list:
    "A training into out/run on the data of the world; `more` are assignments, in place of ours of the same name."
    given = {str(word).partition("=")[0].strip() for word in more}
    ours = [word for word in settings(**changes) if word.partition("=")[0] not in given]
    data = [] if "source" in given else ["--data", world.data]
    return ["train", world.out / "run", "--preset", "smoke", *data, "--set", *ours, *more]


def evaluate_try(world: World, run: Path | None = None, **options: object) -> Try:
    "Evaluation of a run of the world."
    run = run or world.run
    files = (f"world/{run.name}/{name}" for name in RUN_FILES)
    caches = (f"world/shared/{name}" for name in ("checked", "hashes", "slices"))
    return Try(["evaluate", run], **{"changes": (*files, *caches, "out")} | options)


def predict_try(world: World, *inputs: object, run: Path | None = None, **options: object) -> Try:
    "Prediction of pictures or folders into out."
    return Try(["predict", run or world.run, *inputs, "--out", world.out], **options)


def _evaluated(outcome: Outcome) -> object:
    folder = outcome.scratch / "world" / "run"
    return {
        "metrics": json.loads((folder / "metrics.json").read_text()),
        "rows": (folder / "predictions.csv").read_text(),
    }


def _predicted(outcome: Outcome) -> object:
    "Classes, regions and lesions by slice; where the pictures lie does not count."
    content = json.loads((outcome.scratch / "out" / "predictions.json").read_text())
    slices = {one["id"]: {name: value for name, value in one.items() if name != "file"} for one in content["slices"]}
    return {"slices": slices, "lesions": json.loads((outcome.scratch / "out" / "lesions.coco.json").read_text())}


def study_lines(outcome: Outcome) -> dict[str, str]:
    "What status says of each cell."
    lines = (line.split(maxsplit=2) for line in outcome.out.splitlines()[1:] if line.startswith("  "))
    return {words[1]: f"{words[0]} {words[2] if len(words) > 2 else ''}" for words in lines if len(words) > 1}


def study_tables(outcome: Outcome) -> dict[str, dict[str, str]]:
    "The rows of the tables of a study's report: file and first column -> column -> what stands there."
    found = {}
    for path in sorted((outcome.scratch / "world" / "study" / "report").glob("*.csv")):
        with path.open() as file:
            for row in csv.DictReader(file):
                found[f"{path.name}/{next(iter(row.values()))}"] = {name: value for name, value in row.items() if value}
    return found


RESULTS = {
    "train": lambda outcome: (outcome.scratch / "out" / "run" / "weights.safetensors").read_bytes(),
    "evaluate": _evaluated,
    "predict": _predicted,
    "predict-one": _predicted,
    "status": study_lines,
    "report": study_tables,
}
COMMANDS = {
    "train": lambda world: Try(train_words(world)),
    "evaluate": evaluate_try,
    "predict": lambda world: predict_try(world, world.data),
    "predict-one": lambda world: predict_try(world, world.picture),
    "status": lambda world: Try(["status", world.study]),
    "report": lambda world: Try(["report", world.study, "--no-notebook"]),
}
