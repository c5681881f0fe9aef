"""Surroundings: a deleted working folder, read-only and strange places, long TMPDIR, variables with nonsense, links."""

import json
import os
import shutil
from random import Random

from ..base import Try, fine, rule
from ..material import World, evaluate_try, predict_try, train_words


def any_command(chance: Random, world: World, short: bool = False) -> Try:
    "A valid command of any kind, with its result as without the surroundings."
    kind = chance.choice(["train", "evaluate", "predict-one", "status", "report", "phantom", "studies", "dry"])
    if kind == "train":
        return Try(train_words(world), fine=world.same("train"))
    if kind == "evaluate":
        return evaluate_try(world, fine=world.same("evaluate"))
    if kind == "predict-one":
        return predict_try(world, world.picture, fine=world.same("predict-one"))
    if kind == "status":
        return Try(["status", world.study], fine=world.same("status"))
    if kind == "report":
        return Try(["report", world.study, "--no-notebook"], fine=world.same("report"), changes=("world/study/report",))
    if kind == "phantom":
        return Try(["phantom", world.out, "--patients=2", "--slices=1", "--size=64"], fine=fine)
    if kind == "studies":
        return Try(["studies"], fine=fine, changes=())
    return Try(["ablate", "ranking", "--out", world.out, "--dry-run", "--no-estimate"], fine=fine, changes=())


@rule(3)
def deleted_folder(chance: Random, world: World) -> Try:
    "The working folder is deleted under the command, whose paths are whole or relative."
    one, where = any_command(chance, world), world.scratch / "cwd"
    one.before = lambda: os.rmdir(where)
    one.changes = (*one.changes, "cwd")
    one.names, one.input = ["folder", "directory", "cwd"], f"{one.words[0]} in a deleted folder"
    if chance.random() < 0.4:
        hostile = [
            (["predict", world.run, "x.png", "--out", "y"]),
            (["train", "run", "--preset", "smoke"]),
            ["status", "."],
        ]
        one = Try(
            chance.choice([*hostile, ["lab"], ["phantom", "p"]]),
            ["folder", "directory", "x.png", "run", "study"],
            before=one.before,
        )
        one.changes, one.input, one.begun = ("cwd",), f"{one.words} in a deleted folder", None
    return one


@rule(3)
def temporary(chance: Random, world: World) -> Try:
    "TMPDIR long, missing, a file, empty."
    one, kind = any_command(chance, world), chance.choice(["long", "missing", "file", "empty", "device"])
    long = world.scratch / "tmp" / "/".join("d" * 60 for _ in range(5))
    long.mkdir(parents=True)
    value = {"long": long, "missing": "/nowhere/at/all", "file": world.canary, "empty": "", "device": "/dev/null"}[kind]
    one.environment = {"TMPDIR": str(value)}
    one.names, one.input = ["TMPDIR", str(value)], f"{one.words[0]}, TMPDIR {kind}"
    return one


VARIABLES = {
    "COVID_WORKBENCH_MODELS": [
        "/nowhere/models.py",
        "",
        " ",
        "x",
        ":",
        "/dev/null",
        "/etc/passwd",
        "a:b",
        "é💥",
        "/tmp",
    ],
    "COVID_WORKBENCH_PROGRESS": ["nonsense", "", "TEXT", "\x1b[31m"],
    "COVID_WORKBENCH_PROGRESS_FILE": ["/nowhere/x.json", "/dev/full", "/dev/null", "/", "", "x" * 5000],
    "COVID_WORKBENCH_PARENT": ["x", "-1", "", "1"],
    "COVID_WORKBENCH_CACHE": ["/nowhere", "/dev/null", "", "x" * 5000],
    "COVID_WORKBENCH_MAX_PIXELS": ["x", "-1", "", "0", "inf"],
    "OMP_NUM_THREADS": ["x", "-1", "0", "1000000"],
    "CUDA_VISIBLE_DEVICES": ["x", "-1", "99", ""],
    "WORLD_SIZE": ["x", "2", "-1", ""],
    "RANK": ["x", "7", "-1"],
    "COLUMNS": ["x", "-1", "0"],
    "LANG": ["C", "xx_YY", ""],
}


@rule(4)
def variables(chance: Random, world: World) -> Try:
    "Environment variables with nonsense: ignored, or named."
    one, name = any_command(chance, world), chance.choice(sorted(VARIABLES))
    value = chance.choice(VARIABLES[name])
    one.environment = {name: value}
    one.names, one.input = [name, value[:30], "RANK", "WORLD_SIZE"], f"{one.words[0]} with {name}={value[:60]!r}"
    if name in ("WORLD_SIZE", "RANK"):  # torchrun's: half of them is a mistake, and waits for nobody
        one.fine = fine
    return one


@rule(2)
def own_models(chance: Random, world: World) -> Try:
    "A file of the user's own models that cannot be imported, or registers nonsense."
    path = world.scratch / "models.py"
    text, names = chance.choice(
        [
            ("import nosuchmodule\n", ["nosuchmodule"]),
            ("def broken(:\n", ["models.py"]),
            ("raise RuntimeError('x' * 5000)\n", ["RuntimeError", "models.py"]),
            ("raise SystemExit(3)\n", ["models.py"]),
            ("import sys; sys.exit('bye')\n", ["models.py"]),
            ("1 / 0\n", ["ZeroDivisionError", "models.py"]),
            ("\x00", ["models.py"]),
            (
                "from covid_workbench import register_model\nregister_model('lstm2', lambda *a: None)\n",
                ["lstm2", "models.py"],
            ),
            ("from covid_workbench import register_model\nregister_model('', None)\n", ["models.py", "name", "''"]),
        ]
    )
    path.write_text(text)
    one = Try(train_words(world), [*names, str(path)], environment={"COVID_WORKBENCH_MODELS": str(path)})
    one.input = f"own models: {text.strip()[:80]!r}"
    return one


@rule(2)
def readonly(chance: Random, world: World) -> Try:
    "Results where nothing can be written; where they were, nothing is lost."
    kind = chance.choice(["folder", "full", "link", "run"])
    if kind == "link":  # results planted as links to what is mine
        world.out.mkdir()
        for name in ("predictions.json", "lesions.coco.json"):
            (world.out / f"{name}.part").symlink_to(world.canary)
        one = predict_try(world, world.picture, fine=world.same("predict-one"))
    elif kind == "full":
        one = any_command(chance, world)
        limit = chance.choice([20_000, 100_000, 500_000])
        one.before = lambda: _file_size(limit)
        one.fine = one.fine and fine
        one.changes = (*one.changes, "world/run", "world/shared", "world/study")
    elif kind == "run":
        run = world.run
        shutil.rmtree(run.parent / "out", ignore_errors=True)
        (run / "metrics.json").unlink()
        (run / "metrics.json").mkdir()
        one = evaluate_try(world)
    else:
        world.out.mkdir()
        world.out.chmod(0o500)
        words = ["phantom", world.out / "x", "--patients=2", "--slices=1", "--size=64"]
        one = Try(words, fine=fine)  # root may write there
    one.names, one.input = ["writ", str(world.out), "metrics.json", "failed"], f"{one.words[0]}: {kind}"
    return one


def _file_size(limit: int) -> None:
    "Files beyond the limit fail as on a full disk."
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@rule(3)
def strange_names(chance: Random, world: World) -> Try:
    "Folders with names that are no UTF-8, that look like options or pages, or are as long as can be: valid, or named."
    name = chance.choice(
        [b"caf\xe9", b"\xff\xfe", "é💥".encode(), b"a b", b"<b>x", b"-x", b"x" * 250, b"two\nlines", b"%s", b"\x1b[31m"]
    )
    folder = world.scratch / os.fsdecode(name)
    kind = chance.choice(["out", "data", "picture", "study", "run"])
    if kind == "out":
        one = predict_try(world, world.picture, fine=fine)
        one.words[-1] = folder
        one.changes = (name.decode("utf-8", "backslashreplace"),)
    elif kind == "data":
        shutil.copytree(world.data, folder)
        one = Try(
            ["train", world.out / "run", "--preset", "smoke", "--data", folder, "--set", *train_words(world)[7:]],
            fine=fine,
        )
    elif kind == "picture":
        folder.mkdir()
        shutil.copy(world.picture, folder / "s.png")
        one = predict_try(world, folder, fine=fine)
    elif kind == "study":
        shutil.copytree(world.study, folder)
        one = Try(["report", folder, "--no-notebook"], fine=fine, changes=(name.decode("utf-8", "backslashreplace"),))
    else:
        shutil.copytree(world.run.parent, folder)
        one = Try(["evaluate", folder / "run"], fine=fine, changes=(name.decode("utf-8", "backslashreplace"),))
    one.names, one.input = ["UTF-8", "name", "folder", "caf", "-x", "lines", "source"], f"{kind} in {name[:40]!r}"
    return one


@rule(1)
def hijack(chance: Random, world: World) -> Try:
    "A json.py (or the like) in the working folder is not imported, by the command or its children."
    name = chance.choice(["json.py", "random.py", "torch.py", "numpy.py", "logging.py", "sitecustomize.py"])
    text = f"import pathlib\npathlib.Path({str(world.canary)!r}).write_text('gone')\nraise SystemExit(1)\n"
    (world.scratch / "cwd" / name).write_text(text)
    if chance.random() < 0.5:
        words = ["phantom", world.out, "--patients=2", "--slices=1", "--size=64", "--workers=2"]
        one = Try(words, fine=fine)
    else:
        import torch

        path = world.scratch / "start.pth"
        torch.save({"x": torch.zeros(2)}, path)
        one = Try(train_words(world, f"pretrained={path}"), ["start.pth"], fine=None)
    one.input = f"{one.words[0]} beside a {name}"
    return one


@rule(1)
def planted(chance: Random, world: World) -> Try:
    "Links planted where a command will write: what they point at stays."
    run = world.run
    for name in ("metrics.json", "predictions.csv", "cost.json"):
        for ending in (".part", f".part{os.getpid()}", f".part{os.getpid() + 1}"):
            (run / f"{name}{ending}").symlink_to(world.canary)
    if chance.random() < 0.5:
        (run / "log.txt").unlink(missing_ok=True)
        (run / "log.txt").symlink_to(world.canary)
    one = evaluate_try(
        world, names=["link", "metrics.json"], fine=world.same("evaluate"), input="evaluate: planted links"
    )
    one.changes = (*one.changes, "world/run/")
    return one


@rule(1)
def two_at_once(chance: Random, world: World) -> Try:
    "A run that another process holds, or a lock that is no lock."
    run = world.run
    (run / "weights.safetensors").unlink()
    kind = chance.choice(["folder", "pipe", "garbage"])
    (run / ".lock").unlink(missing_ok=True)
    if kind == "folder":
        (run / ".lock").mkdir()
    elif kind == "pipe":
        os.mkfifo(run / ".lock")
    else:
        (run / ".lock").write_bytes(b"\xff\x00garbage")
    from ..material import settings

    words = ["train", run, "--preset", "smoke", "--data", world.data, "--resume", "--set", *settings(model="attention")]
    changes = ("world/run", "world/shared")
    return Try(words, [".lock", str(run)], fine, changes, input=f"a lock that is a {kind}")


@rule(1)
def moved(chance: Random, world: World) -> Try:
    "A run copied alone, its data where they were or gone: scored as before, or what is missing is said."
    target = world.scratch / "elsewhere"
    shutil.copytree(world.run, target)
    if chance.random() < 0.5:
        content = json.loads((target / "experiment.json").read_text())
        content["record"]["data_root"] = str(world.data)
        (target / "experiment.json").write_text(json.dumps(content))
    words = ["evaluate", target]
    return Try(words, ["data", "slice", str(target), "detector"], fine, ("elsewhere",), input="a run copied alone")
