"""Try after try: draw, make, run, judge; what failed, with the words that repeat it."""

import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import rules  # noqa: F401  (registers them)
from .base import Outcome, Try, drawn, short
from .child import command, run_try
from .material import Material, World
from .verdict import grown, judge, logs, snapshot, touched

LONGEST = float(os.environ.get("FAULTS_LIMIT", "inf"))  # seconds: a shorter limit while rules are written


@dataclass
class Result:
    "A try that was made: its number, class, rule and input, its outcome, and what is wrong with it."

    number: int
    kind: str
    rule: str
    one: Try
    outcome: Outcome
    wrong: list[str]

    @property
    def verdict(self) -> str:
        "failed, refused or fine"
        return "failed" if self.wrong else "refused" if self.outcome.code else "fine"


def make_try(material: Material, seed: int, number: int, run=command, keep: bool = False) -> Result:
    "Make try `number` of a seed in a scratch folder of its own; `keep` leaves the folder there."
    rule, chance = drawn(seed, number)
    scratch = material.root / f"try-{os.getpid()}"
    remove(scratch)
    world = World(material, scratch, chance)
    try:
        one = rule.make(chance, world)
        one.limit = min(one.limit, LONGEST)
        result = attempt(one, scratch, run)
    except Exception as error:  # one broken rule does not end the others
        one, broken = Try([], input="the rule itself is broken"), Outcome(70, "", traceback.format_exc(), 0, scratch)
        result = broken, [f"the rule is broken: {type(error).__name__}: {error}"]
    if not keep:
        remove(scratch)
    return Result(number, rule.kind, rule.name, one, *result)


def attempt(one: Try, scratch: Path, run=command) -> tuple[Outcome, list[str]]:
    "Run a try in its scratch folder, and what is wrong with what came of it."
    before, looks = snapshot(scratch), logs(scratch)
    outcome = run_try(one, scratch, run)
    wrong = touched(before, snapshot(scratch), (*one.changes, *(() if outcome.code else grown(looks, scratch))))
    return outcome, judge(one, outcome, wrong)


def remove(folder: Path) -> None:
    "Remove a scratch folder, whatever its rights are."
    if folder.exists():
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
            path.chmod(0o755)
        shutil.rmtree(os.fsencode(folder))


def shown(result: Result) -> str:
    "Input and output of a try, for people."
    words = " ".join(short(os.fspath(word) if isinstance(word, Path) else str(word), 300) for word in result.one.words)
    lines = [f"#{result.number} {result.kind}/{result.rule}: {result.one.input}", f"$ covid-workbench {words}"]
    if result.one.environment:
        lines.append(f"  with {short(result.one.environment)}")
    lines.append(f"exit {result.outcome.code} after {result.outcome.seconds:.1f} s")
    for name in ("out", "err"):
        lines += [f"  {name}: {line}" for line in getattr(result.outcome, name).splitlines()[-30:]]
    return "\n".join([*lines, *(f"WRONG: {wrong}" for wrong in result.wrong)])


def reproduce(seed: int, number: int) -> str:
    return f"{Path(sys.executable).name} -m tests.faults --seed {seed} --only {number}"


def tries(material: Material, seed: int, numbers: list[int]) -> Iterator[Result]:
    "The tries of these numbers, one after the other."
    for number in numbers:
        yield make_try(material, seed, number)
