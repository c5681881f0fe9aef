"""What is asked of every try: exit 0, 1 or 2; one sentence; no traceback, no hang; nothing touched; no wrong figure."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from .base import Outcome, Try, short

BAR = re.compile(r"\d+%\||\[\d+:[\d:]+[<,].*[\d?]\w+/\w+")  # by its clock: a folder's name may end in "s"
UNFORESEEN = "this is a fault of the workbench"
NUMBERS = ("metrics.json", "predictions.json", "lesions.coco.json", "results.json", "cost.json")


def snapshot(folder: Path) -> dict[str, str]:
    "Relative path -> what is there, as a hash, for every file, link and folder."
    found = {}
    for name in sorted(_names(os.fsencode(folder), b"")):
        path = os.path.join(os.fsencode(folder), name)
        mode = os.lstat(path).st_mode
        text = name.decode("utf-8", "backslashreplace")
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                found[text] = hashlib.file_digest(file, "blake2b").hexdigest()
        else:
            found[text] = f"link to {os.readlink(path)!r}" if stat.S_ISLNK(mode) else stat.filemode(mode)[0]
    return found


def _names(root: bytes, below: bytes) -> Iterator[bytes]:
    with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
            name = os.path.join(below, entry.name)
            yield name
            if entry.is_dir(follow_symlinks=False):
                yield from _names(root, name)


def touched(before: dict[str, str], after: dict[str, str], allowed: tuple[str, ...]) -> list[str]:
    "What was changed, deleted or added outside the places that the try allows."
    wrong = []
    for name in sorted({*before, *after}):
        known = name.startswith((*allowed, ".output", "tmp", "home")) or name.endswith("shared/hashes.json")  # a cache
        if before.get(name) == after.get(name) or known:
            continue
        wrong.append(f"{'added' if name not in before else 'changed' if name in after else 'deleted'} {short(name)}")
    return wrong


def logs(folder: Path) -> dict[str, str]:
    "Relative path -> text of every log of the looks at a run's test patients."
    found = sorted(folder.glob("*/**/test_uses.jsonl"))
    return {os.fspath(path.relative_to(folder)): path.read_text() for path in found}


def grown(before: dict[str, str], folder: Path) -> list[str]:
    "The logs that kept what they held; what work that was done may add to them is one look after the other."
    return [name for name, text in logs(folder).items() if text.startswith(before.get(name, ""))]


def spoken(err: str) -> list[str]:
    "The lines of stderr that are neither progress bars nor the usage that argparse prints."
    lines, usage = [], False
    for line in re.split(r"[\r\n]+", err):
        usage = line.startswith("usage: ") or (usage and line.startswith(" "))
        if line.strip() and not usage and not BAR.search(line):
            lines.append(line)
    return lines


def _refusal(one: Try, outcome: Outcome) -> Iterator[str]:
    "What is wrong with the sentence of a refusal."
    lines = spoken(outcome.err)
    if one.quiet and not any(line.startswith("covid-workbench") for line in lines):
        return
    if len(lines) != 1:
        yield f"{len(lines)} lines on stderr instead of one sentence: {short(' / '.join(lines[-3:]), 400)}"
    elif not lines[0].startswith("covid-workbench"):
        yield f"the line does not begin with the command: {short(lines[0])}"
    elif len(lines[0]) > 1500:
        yield f"a sentence of {len(lines[0])} characters"
    elif one.names and not any(str(name) in lines[0] for name in one.names):
        yield f"the sentence names none of {short(list(map(str, one.names)))}: {short(lines[0], 300)}"


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _figures(scratch: Path) -> Iterator[str]:
    "JSON that holds NaN or infinity, or is none."
    for name in NUMBERS:
        for path in (scratch / "out").rglob(name):
            try:
                json.loads(path.read_text(), parse_constant=_refuse_constant)
            except ValueError as error:
                yield f"{name} holds no proper JSON: {short(str(error))}"


def judge(one: Try, outcome: Outcome, wrong: list[str]) -> list[str]:
    "Everything that is wrong with the outcome of a try; `wrong` is what `touched` found."
    found = [f"touched: {', '.join(wrong[:4])}" + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")] * bool(
        wrong
    )
    text = outcome.out + outcome.err
    if "Traceback (most recent call last)" in text:
        return [f"traceback: {short(_last(text), 300)}", *found]
    if UNFORESEEN in text:  # one sentence, but not one that anybody wrote for this input
        return [f"unforeseen: {short(_last(text), 300)}", *found]
    if outcome.code is None:
        if outcome.begun and one.fine:
            return found
        return ["valid work began with a wrong input" if outcome.begun else f"hang: {one.limit:g} s", *found]
    if outcome.code not in (0, 1, 2):
        return [f"exit {outcome.code}: {short(_last(outcome.err), 300)}", *found]
    if outcome.code:
        return [*_refusal(one, outcome), *found]
    if one.fine is None:
        return [f"accepted: exit 0, {short(_last(outcome.out))}", *found]
    verdict = one.fine(outcome)
    return [*([verdict] if verdict else _figures(outcome.scratch)), *found]


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
