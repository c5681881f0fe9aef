"""Options of the commands: wrong numbers, devices, ports, names, folders; misspelt commands."""

import json
import os
import subprocess
from random import Random

from ..base import Try, fine, rule, short
from ..material import World, predict_try, settings
from ..values import WORDS, number_of

DEVICES = (
    "tpu",
    "cuda",
    "cuda:7",
    "cuda:-1",
    "mps",
    "",
    "CPU",
    "cpu:9",
    "meta",
    "xla",
    "cpu,cuda",
    "a" * 500,
    "é",
    "0",
    "hpu",
)
WHERE = ("/dev/null", "/proc/nothing", "/sys/x", "/dev/full", "", " ")


@rule(3)
def predict_numbers(chance: Random, world: World) -> Try:
    "predict with a hostile batch or score."
    option, value = chance.choice(["--batch", "--score"]), number_of(chance)
    same = world.same("predict-one")

    def check(outcome) -> str:  # a score in 0..1 asks for other lesions
        return same(outcome) if option == "--batch" else "" if value in ("0", "-0") else f"{option}={value} accepted"

    one = predict_try(world, world.picture, names=[option, option.strip("-"), value[:40] or "''"], fine=check)
    one.words += [f"{option}={value}"]
    one.input = f"{option}={short(value, 60)}"
    return one


@rule(2)
def devices(chance: Random, world: World) -> Try:
    "A device that is not there."
    device, command = chance.choice(DEVICES), chance.choice(["predict", "evaluate"])
    names = [device, "device"] if device else ["device", "''"]
    harmless = world.same("predict-one" if command == "predict" else "evaluate") if device in ("CPU", "") else None
    if command == "predict":
        one = predict_try(world, world.picture, names=names, fine=harmless)
    else:
        one = Try(["evaluate", world.run], names, fine=harmless, changes=("world/run",) if harmless else ())
    one.words += [f"--device={device}"]
    one.input = f"{command} --device={short(device, 40)}"
    return one


@rule(3)
def phantom(chance: Random, world: World) -> Try:
    "phantom with a hostile number."
    option = chance.choice(["--patients", "--size", "--slices", "--difficulty", "--seed", "--workers"])
    value = number_of(chance)
    words = ["phantom", world.out, "--patients=2", "--slices=1", "--size=64", f"{option}={value}"]
    begun = world.out if option in ("--patients", "--slices", "--size", "--workers") else None
    allowed = fine if (option, value) in FINE_PHANTOM else None
    return Try(words, [option.strip("-"), value[:30]], fine=allowed, begun=begun, input=f"{option}={short(value, 60)}")


FINE_PHANTOM = {
    ("--difficulty", "0"),
    ("--difficulty", "-0"),
    ("--difficulty", "1.5"),
    ("--seed", "0"),
    ("--seed", "-0"),
}
FINE_PHANTOM |= {
    ("--seed", "1000000000"),
    ("--seed", "１２"),
    ("--patients", "１２"),
    ("--slices", "１２"),
    ("--workers", "１２"),
}


@rule(3)
def ablate(chance: Random, world: World) -> Try:
    "ablate with hostile limits; nothing may start."
    (world.scratch / "study.json").write_text(
        json.dumps({"name": "s", "axes": {"seed": [0]}, "settings": {"hidden_size": 8}})
    )
    options = ["--workers", "--threads", "--timeout", "--memory", "--retries", "--seeds", "--gpus", "--executor"]
    option = chance.choice(options)
    value = number_of(chance)
    if option == "--gpus":
        value = chance.choice(["x", "0,,1", "-1", "99", "0,0", "é", "1.5", ","])
    elif option == "--executor":
        value = chance.choice(["nonsense", "dask:", "dask:/nowhere.json", "Local", "", "dask:tcp://127.0.0.1:1"])
    words = [
        "ablate",
        world.scratch / "study.json",
        "--out",
        world.out,
        "--no-notebook",
        "--no-estimate",
        f"{option}={value}",
    ]
    names = [option.strip("-"), value[:30] or "''", "GPU"]
    harmless = fine if (option, value) in FINE_ABLATE else None
    return Try(words, names, fine=harmless, begun=world.out / "manifest.json", input=f"{option}={short(value, 60)}")


FINE_ABLATE = {(name, zero) for name in ("--threads", "--timeout", "--memory", "--retries") for zero in ("0", "-0")}
FINE_ABLATE |= {(name, "1.5") for name in ("--timeout", "--memory")}
FINE_ABLATE |= {(name, "１２") for name in ("--threads", "--retries", "--workers", "--seeds", "--memory", "--timeout")}
FINE_ABLATE |= {(name, "2e9") for name in ("--timeout", "--memory")} | {
    (name, "1000000000") for name in ("--timeout", "--memory")
}


@rule(3)
def dry_run(chance: Random, world: World) -> Try:
    "ablate --dry-run with names that are none, and grids beyond counting."
    option = chance.choice(["--size", "--data", "--target", "--seeds", "--set"])
    value = {
        "--size": ["nonsense", "", "SMOKE", "x" * 3000, "💥"],
        "--data": ["/nowhere", "", "/dev/null", "/etc/passwd", "\udcff", "a" * 5000],
        "--target": ["/nowhere", "phantom", "/dev/null"],
        "--seeds": ["0", "-1", "1000000000", "x", "1.5", "9" * 400],
        "--set": ["bakbone=1", "x", "hidden_size=inf", "seed=nan", "=", "model=lstm9", "source=/nowhere"],
    }[option]
    word = chance.choice(value)
    study = chance.choice(["ranking", "tables-1-4", "transfer", "tables-1-4", "nosuchstudy"])
    words = ["ablate", study, "--out", world.out, "--dry-run", "--no-estimate", f"{option}={word}"]
    names = [
        option.strip("-"),
        word[:30] or "''",
        "bakbone",
        "hidden_size",
        "seed",
        "model",
        "study",
        "second data source",
    ]
    return Try(words, names, changes=(), input=f"{study} {option}={short(word, 60)}")


@rule(3)
def demo(chance: Random, world: World) -> Try:
    "demo with what it cannot do, or would ignore; nothing may start."
    extra, names = chance.choice(
        [
            (["--set", "seed=5"], ["seed"]),
            (["--set", "split_seed=5"], ["split_seed"]),
            (["--set", "phantom_seed=5"], ["phantom_seed"]),
            (["--set", "model=lstm2"], ["model"]),
            (["--set", "source=/nowhere"], ["source", "/nowhere"]),
            (["--set", f"source={world.data}"], ["source"]),
            (["--set", "bakbone=x"], ["bakbone"]),
            (["--set", "hidden_size=inf"], ["hidden_size"]),
            (["--set", "x"], ["x"]),
            (["--preset", "nonsense"], ["nonsense"]),
            (["--preset", ""], ["preset"]),
            (["--seed", "-1"], ["seed"]),
            (["--seed", "9" * 40], ["seed"]),
            (["--seed", "x"], ["seed"]),
            (["--summarise", "/nowhere"], ["/nowhere"]),
            (["--summarise", str(world.data)], [str(world.data)]),
            (["--summarise"], ["summarise"]),
            (["--set", "regime=fine-tune"], ["regime", "start_from"]),
        ]
    )
    start = [] if "--summarise" in extra else ["--out", world.out, "--preset", "smoke"]
    words = ["demo", *start, *extra]
    return Try(words, names, changes=(), limit=20, input=" ".join(extra))


def _no_server() -> None:
    "JupyterLab is not started: whoever asks for it gets a process that has ended well."

    class Ended:
        returncode, pid = 0, 0

        def __init__(self, *words, **options):
            print("server started")

        def wait(self, *args, **options):
            return 0

        poll = communicate = __exit__ = wait

        def __enter__(self):
            return self

        def send_signal(self, number):
            pass

        kill = terminate = wait

    os.geteuid = os.getuid = lambda: 1000  # under root it would not start anyway
    subprocess.Popen, subprocess.run, subprocess.call = Ended, Ended, lambda *words, **options: 0


@rule(2)
def lab(chance: Random, world: World) -> Try:
    "lab with bad ports, runs and folders; its server is never started."
    extra, names = chance.choice(
        [
            *(
                (["--port", port], ["port", port[:20]])
                for port in ("-1", "0", "65536", "1000000000", "x", "", "nan", "80.5")
            ),
            (["--data", "/nowhere"], ["/nowhere"]),
            (["--data", ""], ["data", "''"]),
            (["/nowhere"], ["/nowhere"]),
            ([""], ["run", "''"]),
            ([world.data], ["data"]),
            ([world.run] * 4, ["4", "run"]),
            ([world.run, world.canary], ["canary"]),
        ]
    )
    folder = world.out
    if chance.random() < 0.3:
        folder.mkdir()
        extra, names = [world.run], ["attention.ipynb", "lesions.ipynb", "runs.ipynb"]
        broken = chance.choice(["{", "[]", "", '{"cells": 1}', '{"cells": [{}]}', "\xff"])
        (folder / "attention.ipynb").write_bytes(broken.encode("latin-1"))
    one = Try(["lab", *extra, "--folder", folder, "--no-browser"], names, before=_no_server)
    one.fine = fine if extra == ["--port", "0"] else None
    one.input = " ".join(short(str(word), 60) for word in extra) + (
        " over a broken notebook" if folder.exists() else ""
    )
    return one


@rule(2)
def places(chance: Random, world: World) -> Try:
    "Results where none can be: a device, a file, the empty word, a folder that holds something else."
    where = chance.choice([*WHERE, "file", "mine", "below a file"])
    if where == "mine":
        world.out.mkdir()
        (world.out / "thesis.tex").write_text("years of work")
    elif where in ("file", "below a file"):
        world.out.write_text("mine")
    place = {"mine": world.out, "file": world.out, "below a file": world.out / "x"}.get(where, where)
    command = chance.choice(["predict", "train", "phantom", "lab", "demo", "ablate"])
    words = {
        "predict": ["predict", world.run, world.picture, "--out", place],
        "train": ["train", place, "--preset", "smoke", "--data", world.data, "--set", *settings()],
        "phantom": ["phantom", place, "--patients=2", "--slices=1", "--size=64"],
        "lab": ["lab", world.run, "--folder", place],
        "demo": ["demo", "--out", place, "--preset", "smoke"],
        "ablate": ["ablate", "ranking", "--out", place, "--no-estimate"],
    }[command]
    fresh = where == " " or (where == "mine" and command in ("predict", "lab", "phantom"))
    harmless = fine if fresh and command not in ("demo", "ablate") else None
    names = [str(place).strip(), "''", "out", "folder", "run"]
    one = Try(
        words,
        names,
        harmless,
        ("cwd", "out/", "shared") if fresh else ("shared", "cwd/shared"),
        before=_no_server if command == "lab" else _nothing,
    )
    one.limit, one.input = 25, f"{command} into {where!r}"
    return one


def _nothing() -> None:
    pass


@rule(2)
def words(chance: Random, world: World) -> Try:
    "Commands that are none, arguments that are missing or too many, runs that are none."
    run, hostile = world.run, chance.choice(WORDS)
    choices = [
        ([], ["command"]),
        (["nonsense"], ["nonsense"]),
        ([hostile], ["command", "choice"]),
        (["train"], ["run"]),
        (["predict", run], ["files", "out"]),
        (["predict", run, "x.png"], ["out"]),
        (["evaluate", run, run], [str(run)]),
        (["evaluate", hostile], [short(hostile, 20), "run", "not a run", ""]),
        (["status", hostile], ["study", "not a study", ""]),
        (["report", world.data], [str(world.data)]),
        (["status", run], [str(run)]),
        (["evaluate", world.canary], [str(world.canary)]),
        (["settings", "--model", hostile], ["model", short(hostile, 20), ""]),
        (["settings", "--backbone", chance.choice(["x", "densenet121", ""])], ["backbone", "model"]),
        (["train", world.out, "--set"], ["--set"]),
        (["train", world.out, "--data", ""], ["data", "source"]),
        (["train", world.out, "--from", ""], ["from", "''"]),
        (["train", world.out, "--from", "/nowhere"], ["/nowhere"]),
        (["train", world.out, "--preset", ""], ["preset"]),
        (["train", "", "--preset", "smoke", "--data", world.data], ["run", "''"]),
        (["predict", run, "/nowhere.png", "--out", world.out], ["/nowhere.png"]),
        (["predict", run, "", "--out", world.out], ["''", "file", "picture", "empty"]),
        (["predict", run, world.canary, "--out", world.out], ["canary"]),
        (["parity", world.data], [str(world.data)]),
        (["parity", "/nowhere"], ["/nowhere"]),
        (["report", "--no-notebok", world.study], ["no-notebok"]),
        (["evaluate", run, "--jso"], ["jso"]),
    ]
    chosen, names = chance.choice(choices)
    harmless = fine if "--jso" in chosen or chosen[:2] == ["settings", "--backbone"] else None
    if chosen[:2] == ["settings", "--model"]:
        harmless = fine if hostile in ("", "None", "none") else None
    changes = ("world/run",) if "--jso" in chosen else ("cwd/shared",)  # marks of what was checked
    return Try(chosen, names, harmless, changes, input=short(" ".join(map(str, chosen))), limit=30)


@rule(1)
def parity(chance: Random, world: World) -> Try:
    "parity on fixtures that are unknown, damaged, or none."
    import numpy as np

    folder = world.scratch / "fixtures"
    folder.mkdir()
    name = chance.choice(["x.npz", "x.json"])
    if name == "x.json":
        text = chance.choice(
            ['{"a": 1}', "[", '{"params_updated_by_seg_step": 5}', '{"params_updated_by_seg_step": [1]}', "[]"]
        )
        (folder / name).write_text(text)
    else:
        np.savez(
            folder / name, **{chance.choice(["image_u8", "weights", "x", "boxes"]): np.zeros(chance.choice([0, 1, 4]))}
        )
        if chance.random() < 0.5:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[: chance.randrange(len(content))])
    one = Try(
        ["parity", folder], [name, "x_state_names"], input=f"{name}: {os.path.getsize(folder / name)} bytes", changes=()
    )
    one.quiet = True
    return one


@rule(1)
def both(chance: Random, world: World) -> Try:
    "A preset beside a file of settings that names another one, or none."
    config = world.scratch / "config.json"
    config.write_text(json.dumps({"preset": "smoke"}))
    preset = chance.choice(["paper", "nonsense", "small", ""])
    words = [
        "train",
        world.out / "run",
        "--config",
        config,
        "--preset",
        preset,
        "--data",
        world.data,
        "--set",
        *settings(),
    ]
    return Try(words, ["preset", preset], input=f"--config with preset smoke, --preset {preset!r}")
