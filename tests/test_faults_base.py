"""What the lowest room refuses: values that are no settings, files that are no files, links that were planted."""

import json
import math
import os
import subprocess

import pytest
import torch

from covid_workbench.errors import InputError, StorageError
from covid_workbench.files import (
    append_to,
    load_tensors,
    read_file,
    read_json,
    refuse_non_finite,
    safe_names,
    save_tensors,
    write_atomic,
)
from covid_workbench.headless import isolated_python
from covid_workbench.locks import exclusive
from covid_workbench.progress import report_progress
from covid_workbench.runs.experiment import GROUP_OF, KINDS, Experiment
from covid_workbench.schemas import FORMAT, SCHEMAS, check_content, read_checked, read_checked_csv
from covid_workbench.settings import MOST_EXACT, read_value

DIGITS = "9" * 400
HOSTILE = [
    math.inf,
    -math.inf,
    math.nan,
    "inf",
    "1e400",
    DIGITS,
    int(DIGITS),
    10**5000,
    -1,
    2.0**60,
    10**9,
    True,
    None,
    "",
    [],
    [[]],
    [None],
    {"a": 1},
    b"2",
    "a\x00b",
    "a\nb",
    "\ud800",
    "x" * 10_000,
    object(),
]
NUMBERS = [
    name
    for kind in KINDS.values()
    for name, field in vars(kind)["__dataclass_fields__"].items()
    if "int" in str(field.type) or "float" in str(field.type)
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_a_setting_takes_a_hostile_value_or_refuses_it_in_one_sentence(value):
    for name in GROUP_OF:
        try:
            experiment = Experiment.make("smoke", **{name: value})
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 900, name
        else:
            kept = experiment.flat()[name]
            assert json.loads(json.dumps(kept, allow_nan=False)) == (list(kept) if isinstance(kept, tuple) else kept)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_an_upper_bound(name):
    kind = KINDS[GROUP_OF[name]]
    limits = kind.__dataclass_fields__[name].metadata
    assert limits["options"] or (limits["high"] is not None and limits["high"] <= MOST_EXACT), name


def test_lists_lose_their_own_brackets_and_folders_keep_theirs():
    assert read_value("(0.5, 1)", tuple[float, ...], "anchor_ratios") == (0.5, 1.0)
    assert read_value("[a, b]", tuple[str, ...], "also") == ("a", "b")
    assert read_value("scans (2), old [1]", tuple[str, ...], "also") == ("scans (2)", "old [1]")


def test_a_seed_is_exact_or_refused():
    assert Experiment.make("smoke", seed=str(2**53)).training.seed == 2**53
    assert Experiment.make("smoke", seed="9007199254740991").training.seed == 9007199254740991
    with pytest.raises(InputError, match="whole number"):
        read_value(1e300, int, "steps")
    for seed in (2**53 + 1, str(2**53 + 1), 1e300, "1e17"):
        with pytest.raises(InputError, match="seed"):
            Experiment.make("smoke", seed=seed)


@pytest.mark.parametrize(
    "name, value",
    [
        ("source", ["a"]),
        ("pretrained", 5),
        ("seed", True),
        ("epochs", False),
        ("epochs", b"1"),
        ("classes", {"Normal": 1}),
    ],
)
def test_a_value_of_another_kind_is_not_read_as_what_it_looks_like(name, value):
    with pytest.raises(InputError, match=name):
        Experiment.make("smoke", **{name: value})


@pytest.mark.parametrize("name", ["cls", "self", "preset", "values"])
def test_a_setting_named_as_an_argument_is_unknown(name):
    with pytest.raises(InputError, match=name):
        Experiment.make("smoke", **{name: 1})
    with pytest.raises(InputError, match=name):
        Experiment().replace(**{name: 1})


def test_a_setting_given_twice_is_refused(command, tmp_path):
    code, _, error = command("train", tmp_path / "run", "--preset", "smoke", "--set", "seed=1", "seed=2")
    assert code == 2 and "seed" in error and "twice" in error and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content, says",
    [
        (b'{"a": ' * 200_000, "deep"),
        (b"[" * 200_000, "deep"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "JSON"),
        (b"\xff\xfe{\x00", "JSON"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"a": "\\ud800"}', "half"),
        (b"", "JSON"),
        (b"[]", "names"),
    ],
    ids=range(8),
)
def test_json_that_is_none(tmp_path, content, says):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=says) as refused:
        read_json(tmp_path / "a.json")
    assert "a.json" in str(refused.value) and len(str(refused.value)) < 600


def test_what_is_no_file_never_hangs(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", tmp_path / "a\0b", "/dev/zero"):
        with pytest.raises(InputError):
            read_file(path)
        with pytest.raises(InputError):
            load_tensors(path)
    with pytest.raises(StorageError):
        read_file(tmp_path / "loop")
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(InputError, match="MiB"):
        read_file(tmp_path / "large", most=4)


def test_planted_links_are_not_followed(tmp_path, monkeypatch):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("mine")
    folder.mkdir()
    for name in (
        "log.txt",
        ".lock",
        "state.json",
        f"state.json.part{os.getpid()}",
        "progress.json",
        "progress.json.part",
    ):
        (folder / name).symlink_to(victim)
    for write in (append_to, lambda path: exclusive(path).__enter__()):
        with pytest.raises(StorageError):
            write(folder / ("log.txt" if write is append_to else ".lock"))
    os.mkfifo(folder / "pipe")
    with pytest.raises(StorageError):  # nobody reads it; it is not waited for
        append_to(folder / "pipe")
    write_atomic(folder / "state.json", "{}")
    monkeypatch.setenv("COVID_WORKBENCH_PROGRESS_FILE", str(folder / "progress.json"))
    monkeypatch.setattr("covid_workbench.progress._last_report", -10)
    report_progress("training", 1, 2)
    assert victim.read_text() == "mine" and not (folder / "state.json").is_symlink()
    assert read_checked(folder / "progress.json", "progress")["done"] == 1


def test_children_do_not_import_from_the_working_folder(tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('planted')")
    done = subprocess.run([*isolated_python(), "-c", "import json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_file_names_stay_inside_and_apart():
    names = [
        "../../../mine",
        "/etc/passwd",
        "a",
        "A",
        "..",
        "",
        "con",
        "CON.png",
        "x" * 5000,
        "x" * 5001,
        "ß",
        "SS",
        "\udcff",
    ]
    made = safe_names(names)
    assert len({name.casefold() for name in made}) == len(names)
    assert all("/" not in name and name not in ("", ".", "..") and len(name.encode()) <= 100 for name in made)
    assert not {"con", "nul.png", "aux"} & set(safe_names(["con", "nul.png", "aux"]))
    assert safe_names(["P002_0031", "slice 4", "ä.b"]) == ["P002_0031", "slice 4", "ä.b"]


def test_weights_that_are_no_numbers_are_named(tmp_path):
    refuse_non_finite({"a": torch.ones(3), "steps": torch.tensor(3)}, "here")
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match="tensor b holds 1 of 2"):
            refuse_non_finite({"a": torch.ones(3), "b": torch.tensor([1.0, value])}, "here")


@pytest.mark.parametrize("note", ["no json", "[1]", "{"])
def test_a_note_that_is_no_json_object(tmp_path, note):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", {"note": note})
    with pytest.raises(InputError, match="a.safetensors"):
        load_tensors(tmp_path / "a.safetensors")
    save_tensors(tmp_path / "a.safetensors", {"a": torch.ones(1)})
    assert load_tensors(tmp_path / "a.safetensors")[1] == {}


def test_what_the_workbench_writes_passes_its_schemas(finished):
    for name in ("experiment", "metrics", "cost", "warm_start"):
        read_checked(finished.folder / f"{name}.json", name)
    for name in ("history", "predictions"):
        read_checked_csv(finished.folder / f"{name}.csv", name)


def _variants(value):
    "The value with each of its parts replaced by something of another type, with the path of that part."
    for other in (None, "no", 7.5, -1, [], {}, math.nan, True):
        if type(other) is not type(value):
            yield (), other
    if isinstance(value, dict):
        for name, part in value.items():
            for path, other in _variants(part):
                yield (name, *path), {**value, name: other}


def test_a_schema_names_the_field(finished):
    content = json.loads((finished.folder / "cost.json").read_text())
    wrong = [
        (path, other) for path, other in _variants(content) if path and path[-1] in ("seconds", "threads", "device")
    ]
    refused = 0
    for path, other in wrong:
        try:
            check_content(other, "cost", "cost.json")
        except InputError as error:
            refused += 1
            assert f"field '{'.'.join(path)}'" in str(error)
    assert refused >= 20


@pytest.mark.parametrize(
    "content, says",
    [
        ({"status": "failed"}, "field 'attempt' is missing"),
        ({"status": "failed", "attempt": 1, "spent": math.nan}, "field 'spent' must be"),
        ({"status": "failed", "attempt": True}, "field 'attempt' must be"),
        ({"status": "failed", "attempt": 1, "starts": [1, math.inf]}, r"field 'starts\[1\]' must be"),
        ({"status": "<b>", "attempt": 1}, "one of queued"),
    ],
)
def test_a_state_that_is_none(content, says):
    with pytest.raises(InputError, match=says):
        check_content(content, "state", "state.json")


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_schema_ends_in_a_traceback(name):
    for value in (None, [], {}, "text", 3, {"format": "new"}, {"cells": [None]}, {"record": []}):
        try:
            check_content(value, name, "file")
        except InputError as error:
            assert str(error).startswith("file: ")


def test_a_newer_format_is_refused_and_an_older_one_read():
    demo = {"preset": "small", "settings": {}}
    check_content(demo, "demo", "demo.json")
    check_content(demo | {"format": FORMAT}, "demo", "demo.json")
    with pytest.raises(InputError, match="newer"):
        check_content(demo | {"format": FORMAT + 1}, "demo", "demo.json")


@pytest.mark.parametrize(
    "text", ["", "stage\n", "stage,step,seconds\na,b,1\n", "stage,step,seconds\na,1,inf\n", 'a,"b\n', "\0\0"]
)
def test_a_table_that_is_none(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(InputError, match="history.csv"):
        read_checked_csv(tmp_path / "history.csv", "history")
