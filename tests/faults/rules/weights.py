"""Weights: not finite, of other shapes, types or names, from other models, with notes that are no notes."""

import json
import os
import struct
from random import Random

from ..base import Try, rule
from ..material import World
from ..values import ANY_FILE, damage, rewrite
from .runs import use

NAMES = ["weights.safetensors"]
COMMANDS = "evaluate predict evaluate predict from"


def tensors_of(world: World) -> tuple[dict, dict]:
    from covid_workbench.files import load_tensors

    return load_tensors(world.run / "weights.safetensors")


def save(world: World, tensors: dict, note: object = None) -> None:
    from safetensors.torch import save as as_bytes

    rewrite(world.run / "weights.safetensors", as_bytes(tensors, note))


@rule(4)
def not_finite(chance: Random, world: World) -> Try:
    "NaN or infinity in one place, or everywhere: the tensor is named, no figure comes of it."
    tensors, _ = tensors_of(world)
    name = chance.choice([name for name, value in tensors.items() if value.is_floating_point() and value.numel()])
    value = tensors[name] = tensors[name].clone()
    wrong = chance.choice([float("nan"), float("inf"), -float("inf")])
    if chance.random() < 0.5:
        value.view(-1)[chance.randrange(value.numel())] = wrong
    else:
        value.fill_(wrong)
    save(world, tensors)
    one = use(chance, world, NAMES, f"{wrong} in {name}", COMMANDS)
    one.fine, one.names = None, [name]
    return one


@rule(2)
def extreme(chance: Random, world: World) -> Try:
    "Finite weights with which no proposal, or no number, is left: an answer, or a sentence, in proper JSON."
    tensors, _ = tensors_of(world)
    name, value = chance.choice(
        [
            ("rpn.head.bbox_pred.bias", 100.0),
            ("rpn.head.bbox_pred.bias", -100.0),
            ("rpn.head.bbox_pred.bias", 1e30),
            ("rpn.head.cls_logits.bias", -1e30),
            ("rpn.head.cls_logits.bias", 1e30),
            ("box_predictor.bbox_pred.bias", 1e30),
            ("running_var", 0.0),
            ("running_var", -1.0),
            ("weight", 1e30),
        ]
    )
    chosen = [full for full in tensors if full.endswith(name)]
    full = chance.choice(chosen) if chosen else chance.choice(sorted(tensors))
    tensors[full] = tensors[full].clone().fill_(value)
    save(world, tensors)
    one = use(chance, world, ["weights", "finite", full, "NaN"], f"{full} filled with {value:g}", COMMANDS)
    one.fine = _proper
    return one


def _proper(outcome) -> str:
    "Whatever was written is JSON, and says a class only where there are probabilities."
    for path in (
        *(outcome.scratch / "out").rglob("predictions.json"),
        *(outcome.scratch / "world").glob("run/metrics.json"),
    ):
        text = path.read_text()
        if any(word in text for word in ("NaN", "Infinity")):
            return f"{path.name} holds NaN or Infinity"
        for one in json.loads(text).get("slices", ()):
            if "class" in one and not 0.99 < sum(one["probabilities"].values()) < 1.01:
                return f"{one['id']}: probabilities {one['probabilities']}"
    return ""


@rule(4)
def shapes(chance: Random, world: World) -> Try:
    "A tensor of another shape or type, too many or too few: named."
    import torch

    tensors, _ = tensors_of(world)
    name = chance.choice(sorted(tensors))
    kind = chance.choice(
        ["longer", "turned", "scalar", "empty", "missing", "extra", "half", "double", "integer", "boolean", "complex"]
    )
    value = tensors[name]
    changed = {
        "longer": lambda: torch.cat([value.reshape(-1), value.reshape(-1)]),
        "turned": lambda: value.reshape(1, *value.shape),
        "scalar": lambda: torch.tensor(1.0),
        "empty": lambda: value.reshape(-1)[:0].clone(),
        "half": value.half,
        "double": value.double,
        "integer": value.long,
        "boolean": value.bool,
        "complex": lambda: value.to(torch.complex64),
    }
    if kind == "missing":
        del tensors[name]
    elif kind == "extra":
        tensors["extra.weight"] = torch.zeros(3)
        name = "extra.weight"
    else:
        tensors[name] = changed[kind]().contiguous()
    save(world, tensors)
    one = use(chance, world, [name], f"{name}: {kind}", COMMANDS)
    one.names = [name]
    if "--from" in one.words:  # the last layers may differ, and are started anew
        one.names = [name, "weights.safetensors"]
    return one


@rule(2)
def others(chance: Random, world: World) -> Try:
    "The weights of another model, or of the detector alone."
    source = chance.choice([world.other, next((world.run.parent / "shared").glob("detector-*"))])
    rewrite(world.run / "weights.safetensors", (source / "weights.safetensors").read_bytes())
    one = use(chance, world, NAMES, f"weights of {source.name}", COMMANDS)
    one.fine = None
    return one


@rule(2)
def damaged(chance: Random, world: World) -> Try:
    "The file damaged as any file can be."
    what = damage(chance, world.run / "weights.safetensors", ANY_FILE)
    one = use(chance, world, [*NAMES, "not complete"], what, COMMANDS)
    one.fine = None
    return one


@rule(3)
def headers(chance: Random, world: World) -> Try:
    "Headers that lie: lengths, offsets, types, notes."
    path = world.run / "weights.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    data, name = content[8 + length :], chance.choice([name for name in header if name != "__metadata__"])
    kind = chance.choice(
        [
            "length",
            "giant length",
            "offsets",
            "overlap",
            "type",
            "shape",
            "note list",
            "note broken",
            "note deep",
            "json",
        ]
    )
    raw = None
    if kind == "offsets":
        header[name]["data_offsets"] = chance.choice([[0, 10**18], [-1, 4], [4, 0], "x", []])
    elif kind == "overlap":
        header[name]["data_offsets"] = [0, 4]
    elif kind == "type":
        header[name]["dtype"] = chance.choice(["F33", "", None, "F8_E4M3"])
    elif kind == "shape":
        header[name]["shape"] = chance.choice([[10**18], [-1], "x", [10**9, 10**9, 10**9]])
    elif kind.startswith("note"):
        note = {"note list": "[1]", "note broken": "{", "note deep": "[" * 100_000}[kind]
        header["__metadata__"] = {"note": note}
    elif kind == "json":
        raw = b"{" * 500
    text = raw if raw is not None else json.dumps(header).encode()
    size = {"length": len(text) + 7, "giant length": 2**60}.get(kind, len(text))
    rewrite(path, struct.pack("<Q", size) + text + data)
    return use(chance, world, [*NAMES, name], f"header: {kind}", COMMANDS)


@rule(1)
def pickles(chance: Random, world: World) -> Try:
    "A pickle in place of weights, or as pretrained weights: never executed."
    import pickle

    victim = world.scratch / "canary.png"

    class Bomb:
        def __reduce__(self):
            return os.remove, (str(victim),)

    bomb = pickle.dumps(Bomb())
    if chance.random() < 0.7:
        rewrite(world.run / "weights.safetensors", bomb)
        one = use(chance, world, NAMES, "a pickle", COMMANDS)
        one.fine = None
        return one
    from ..material import train_words

    path = world.scratch / chance.choice(["start.pth", "start.pt", "start.safetensors"])
    path.write_bytes(bomb)
    words = train_words(world, f"pretrained={path}")
    return Try(words, [path.name], input=f"pretrained={path.name}, a pickle that deletes a file")
