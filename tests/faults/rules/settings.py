"""Settings on the command line: infinities, giants, words for numbers, arrays for words, contradictions, memory."""

import dataclasses
from random import Random

from ..base import Try, fine, rule, short
from ..material import World, train_words
from ..values import WORDS

FEW = {"epochs": 0.1, "detector_epochs": 0.3, "aggregator_epochs": 0.5}


def fields() -> dict[str, dataclasses.Field]:
    "Every setting by name."
    from covid_workbench.runs.experiment import KINDS

    return {field.name: field for kind in KINDS.values() for field in dataclasses.fields(kind)}


def train_try(world: World, assignments: list[str], names: list[str], **more: object) -> Try:
    "A short training with these assignments; valid ones may take long."
    begun = {"begun": world.out / "run" / "experiment.json", "fine": fine} | more
    return Try(train_words(world, *assignments, **FEW), names, input=short(", ".join(assignments)), **begun)


def _spoken(name: str, word: str) -> list[str]:
    "What a refusal may name: the setting, or the folder that is not there."
    return [name, word[:20]] if name == "also" and word else [name]


@rule(6)
def value(chance: Random, world: World) -> Try:
    "Any setting with a hostile value."
    name = chance.choice(sorted(set(fields()) - {"pretrained", "threads", "device", "source"}))
    word = chance.choice(WORDS)
    return train_try(world, [f"{name}={word}"], _spoken(name, word))


@rule(2)
def two_values(chance: Random, world: World) -> Try:
    "Two settings at once."
    names = chance.sample(sorted(set(fields()) - {"pretrained", "device", "source"}), 2)
    words = {name: chance.choice(WORDS) for name in names}
    spoken = [part for name, word in words.items() for part in _spoken(name, word)]
    return train_try(world, [f"{name}={word}" for name, word in words.items()], spoken)


@rule(2)
def number(chance: Random, world: World) -> Try:
    "A setting that is a number, far outside of what one can compute."
    found = fields()
    numbers = [name for name in found if isinstance(found[name].default, (int, float)) and name != "seed"]
    name = chance.choice(sorted(numbers))
    giant = chance.choice(["1000000", "1e6", "1e9", "10**9", "2147483648", "1e15", "1e30", "-1e9", "9" * 30])
    return train_try(world, [f"{name}={giant}"], [name])


@rule(1)
def unknown(chance: Random, world: World) -> Try:
    "A name that is no setting."
    name = chance.choice(
        ["bakbone", "", " ", "record", "preset", "__class__", "é", "a" * 5000, "data.seed", "SEED", "x\ny"]
    )
    return train_try(
        world, [f"{name}=1"], [name.strip()[:20].splitlines()[0] if name.strip() else "setting"], fine=None
    )


@rule(1)
def no_assignment(chance: Random, world: World) -> Try:
    "A word without '='."
    word = chance.choice(["backbone", "", "💥", "a" * 3000, "seed:1", "--", "seed==", "="])
    return train_try(world, [word], [word[:20] or "''", "key=value", "setting", "seed"], fine=None)


CONTRADICTIONS = (
    (["image_size=32", "cut=layer4"], ["image_size", "layer4"]),
    (["anchor_sizes="], ["anchor_sizes"]),
    (["anchor_sizes=,"], ["anchor_sizes"]),
    (["anchor_ratios="], ["anchor_ratios"]),
    (["roi_batch=1000000"], ["roi_batch"]),
    (["image_size=1000000"], ["image_size"]),
    (["image_size=20000"], ["image_size"]),
    (["hidden_size=1000000000"], ["hidden_size"]),
    (["fpn_channels=10000000"], ["fpn_channels"]),
    (["proposals=1000000000", "proposals_before_nms=1000000000"], ["proposals"]),
    (["classification_batch=1000000000"], ["classification_batch"]),
    (["threads=1000000000"], ["threads"]),
    (["threads=-1"], ["threads"]),
    (["device=tpu"], ["device"]),
    (["device=cuda:7"], ["device"]),
    (["device=mps"], ["device"]),
    (["device="], ["device"]),
    (["validation=0.6", "test=0.6"], ["validation", "test"]),
    (["rpn_background_iou=0.9"], ["rpn_background_iou"]),
    (["regime=fine-tune"], ["start_from"]),
    (["regime=fine-tune", "start_from=/nowhere"], ["/nowhere"]),
    (["model=mask-rcnn", "regime=fine-tune", "start_from=/nowhere"], ["mask-rcnn", "/nowhere"]),
    (["model=classifier", "regime=warm-start"], ["regime"]),
    (["classes=Normal"], ["classes"]),
    (["classes=Normal,Normal"], ["classes"]),
    (["classes="], ["classes"]),
    (["relabel=CP"], ["relabel"]),
    (["relabel=CP=Flu"], ["relabel", "Flu"]),
    (["relabel=CP=Normal,COVID-19=Normal"], ["CP", "COVID-19", "relabel"]),
    (["pretrained=/nowhere.pth"], ["/nowhere.pth"]),
    (["pretrained=."], ["pretrained", ".", "'.'"]),
    (["pretrained=/dev/zero"], ["/dev/zero"]),
    (["source=/nowhere"], ["/nowhere"]),
    (["source="], ["source"]),
    (["seed=9007199254740993.5"], ["seed"]),
    (["seed=1e30"], ["seed"]),
    (["phantom_size=1000000", "source=phantom"], ["phantom_size"]),
    (["phantom_patients=1000000000", "source=phantom"], ["phantom_patients"]),
    (["phantom_scanners=", "source=phantom"], ["phantom_scanners"]),
    (["min_lesion_area=1000000000"], ["min_lesion_area"]),
    (["backbone=densenet121"], ["backbone"]),
    (["protocol=papers"], ["protocol"]),
    (["f1_weights=fixed", "classes=Normal,CP"], ["f1_weights"]),
)


@rule(6)
def contradiction(chance: Random, world: World) -> Try:
    "Settings that cannot be, alone or together."
    assignments, names = chance.choice(CONTRADICTIONS)
    return train_try(world, list(assignments), names, fine=None)


STRONG = ("lstm1", "lstm2", "attention", "ct-mask-net", "classifier", "single-shot", "affinity")


@rule(2)
def diverging(chance: Random, world: World) -> Try:
    "A learning rate at which the loss may explode: refused with the step, or finite weights."
    model, rate = chance.choice(STRONG), chance.choice(["1", "0.3", "0.1"])
    regime = {"classifier": "two-phase", "ct-mask-net": "two-stage"}.get(
        model, chance.choice(["two-phase", "warm-start"])
    )
    rates = [f"{name}={rate}" for name in ("learning_rate", "aggregator_learning_rate", "detector_learning_rate")]
    assignments = [f"model={model}", f"regime={regime}", "gradient_clip=0", *rates, "epochs=0.5", "detector_epochs=1"]
    names = ["learning_rate", "loss", "step"]
    one = Try(train_words(world, *assignments), names, fine=_finite_weights, changes=("out",))
    one.input = f"{model}, {regime}, learning rates {rate}"
    return one


def _finite_weights(outcome) -> str:
    from covid_workbench.files import load_tensors

    tensors, _ = load_tensors(outcome.scratch / "out" / "run" / "weights.safetensors")
    wrong = [name for name, value in tensors.items() if not value.isfinite().all()]
    return f"exit 0 with weights that are not finite: {wrong[0]}" if wrong else ""


@rule(1)
def seeds(chance: Random, world: World) -> Try:
    "Seeds that a floating-point number cannot hold: another seed must not stand for them."
    seed = chance.choice([2**53 + 1, 2**63 - 1, 2**64 + 1])

    def kept(outcome) -> str:
        import json

        stored = json.loads((outcome.scratch / "out" / "run" / "experiment.json").read_text())["training"]["seed"]
        return "" if stored == seed else f"seed={seed} became {stored}"

    return train_try(world, [f"seed={seed}"], ["seed"], fine=kept, begun=None)


@rule(1)
def spelt(chance: Random, world: World) -> Try:
    "Valid values in other words: the result is that of the plain ones."
    words = chance.choice(
        ["seed=0.0", "seed=0", "flips=No", "hidden_size=8.0", "seed = 0", "anchor_sizes=(6, 12)", "flips=0"]
    )
    one = Try(train_words(world, words), [words.partition("=")[0].strip()], fine=world.same("train"), input=words)
    return one
