"""What a try is, and the register of rules."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

Check = Callable[["Outcome"], str]  # what is wrong with an exit code of 0; empty where it is right


@dataclass
class Outcome:
    "What came of a command: exit code (None: it did not end in time), output, and where it ran."

    code: int | None
    out: str
    err: str
    seconds: float
    scratch: Path
    begun: bool = False  # what the try waits for, see `Try.begun`


@dataclass
class Try:
    """One hostile input: the words of a command, and what may come of it.

    `names`: a refusal says at least one of these. `fine` judges an exit code of 0; without it the input must be
    refused. `changes`: what the command may change or delete in the scratch folder, as beginnings of relative paths;
    it may always add files to the folders named there, and to no others.
    """

    words: Sequence[Any]
    names: Sequence[Any] = ()
    fine: Check | None = None
    changes: Sequence[str] = ("out",)
    environment: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] = lambda: None  # called in the child, just before the command
    cwd: str = "cwd"  # the working folder, in the scratch folder
    limit: float = 60  # seconds after which it counts as a hang
    begun: Path | None = None  # valid work that may take long has begun once this file is there
    patience: float = 5  # seconds that such work is watched
    quiet: bool = False  # a failure may be said on stdout alone (ablate: cells that failed; parity: arrays that differ)
    input: str = ""  # the hostile part in words


@dataclass(frozen=True)
class Rule:
    "A function (chance, world) -> `Try` under the name of its class; `weight` says how often it is drawn."

    kind: str
    name: str
    make: Callable[[Random, Any], Try]
    weight: float


RULES: list[Rule] = []


def rule(weight: float = 1) -> Callable:
    "Decorator: register a rule; its class is the module it stands in."

    def register(make: Callable) -> Callable:
        RULES.append(Rule(make.__module__.rpartition(".")[2], make.__name__, make, weight))
        return make

    return register


def drawn(seed: int, number: int) -> tuple[Rule, Random]:
    "The rule of a try, and its source of chance. Classes take turns, so that each gets as many tries."
    kinds = sorted({one.kind for one in RULES})
    chance = Random(f"{seed}/{number}")
    rules = [one for one in RULES if one.kind == kinds[number % len(kinds)]]
    return chance.choices(rules, [one.weight for one in rules])[0], chance


def short(value: object, most: int = 200) -> str:
    "A value on one line, for reports."
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("unicode_escape", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most - 20]}... ({len(text)} characters)"


def fine(outcome: Outcome) -> str:
    "The input is valid, though strange: any result will do."
    return ""


def said(*words: str) -> Check:
    "An exit code of 0 is right where the output has one of these words (regular expressions)."

    def check(outcome: Outcome) -> str:
        text = outcome.out + outcome.err
        return "" if any(re.search(word, text) for word in words) else f"exit 0, and nothing said of it ({words[0]})"

    return check


def either(*checks: Check) -> Check:
    "Right where one of the checks finds nothing."
    return lambda outcome: "" if any(not check(outcome) for check in checks) else checks[0](outcome)
