"""Hostile values and ways to damage files, shared by the rules."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

WORDS = (  # what may stand behind the = of a setting or an option
    *(
        "inf",
        "-inf",
        "nan",
        "Infinity",
        "1e400",
        "-1e400",
        "9" * 400,
        "-" + "9" * 400,
        "0." + "0" * 400 + "1",
        "1e-320",
    ),
    *("", " ", ",", ",,,", "[]", "[1,2", "(1,)", "{}", "null", "None", "none", "true", "False", "0x10", "1_000", "½"),
    *(
        "１２",
        "💥",
        "\u202egnp.exe",
        "a" * 10_000,
        "é" * 300,
        "two\nlines",
        "tab\there",
        "\x1b[31mred",
        "\udcff",
        "%s%n",
    ),
    *("$(id)", "../../etc/passwd", "<script>alert(1)</script>", "1,2,3,inf", "1,,2", "1;2", "a=b", "0,0", "1e18"),
    *("1000000000", "99999999999999999999", "-1", "0", "0.5", "-0.0", "2.5", "1e-9", "true,false", "nan,nan", "1e3"),
)
NUMBERS = (
    "-1",
    "0",
    "1.5",
    "",
    "x",
    "nan",
    "inf",
    "-inf",
    "1000000000",
    "9" * 400,
    "1e400",
    "-0",
    "2e9",
    "１２",
    "0x1",
)
JSONS = (  # what may stand where JSON has another value
    *(None, True, False, 0, -1, 1.5, 1e308, -1e-320, 10**30, 10**400, float("nan"), float("inf"), -float("inf")),
    *("", " ", "x", "nan", "é\u202e💥", "a" * 20_000, "two\nlines", "../../x", "<b>&", "\x00"),
    *([], [[]], [1, 2], [None], ["x"] * 100, {}, {"": ""}, {"a": {"b": [1]}}, {"x": None}),
)


def number_of(chance: Random) -> int | float | str:
    "A number that is often too large, too small or none."
    return chance.choice(NUMBERS)


def paths_in(content: Any, below: tuple = ()) -> Iterator[tuple]:
    "The way to every value in plain data, the values of lists and objects included."
    if below:
        yield below
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield from paths_in(value, (*below, name))


def at(content: Any, path: tuple) -> Any:
    for name in path:
        content = content[name]
    return content


def put(content: Any, path: tuple, value: Any) -> None:
    at(content, path[:-1])[path[-1]] = value


def other_type(chance: Random, value: Any) -> Any:
    "A value that JSON would call by another name than this one (a whole number and a fraction are both numbers)."
    kind = _kind(value)
    return chance.choice([one for one in JSONS if _kind(one) != kind])


def _kind(value: Any) -> str:
    return (
        "boolean" if isinstance(value, bool) else "number" if isinstance(value, (int, float)) else type(value).__name__
    )


def dotted(path: tuple) -> str:
    return ".".join(map(str, path))


def retyped(chance: Random, path: Path, below: tuple = ()) -> tuple[tuple, str]:
    "Give one value in a JSON file (under `below`) another type; where, and what it was and is."
    content = json.loads(path.read_text())
    way = chance.choice(list(paths_in(at(content, below), below)))
    old = at(content, way)
    new = other_type(chance, old)
    put(content, way, new)
    dump(path, content)
    return way, f"{path.name}: {dotted(way)} is {_brief(new)} instead of {_brief(old)}"


def removed(chance: Random, path: Path, below: tuple = ()) -> tuple[tuple, str]:
    "Remove one field from a JSON file."
    content = json.loads(path.read_text())
    ways = [way for way in paths_in(at(content, below), below) if isinstance(way[-1], str)]
    way = chance.choice(ways)
    del at(content, way[:-1])[way[-1]]
    dump(path, content)
    return way, f"{path.name}: {dotted(way)} is missing"


def _brief(value: Any) -> str:
    text = "infinite digits" if isinstance(value, int) and abs(value) > 10**300 else repr(value)
    return text if len(text) < 60 else f"{text[:50]}..."


def dump(path: Path, content: Any) -> None:
    rewrite(path, json.dumps(content, indent=1).encode("utf-8", "surrogatepass"))


def rewrite(path: Path, content: bytes) -> None:
    "Put content in place of a file, a folder or a link."
    clear(path)
    path.write_bytes(content)


def clear(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


NEST = 200_000


def _truncate(chance: Random, path: Path) -> str:
    content = path.read_bytes()
    kept = chance.randrange(len(content) - 1) if len(content) > 1 else 0
    rewrite(path, content[:kept])
    return f"cut to {kept} of {len(content)} bytes"


def _cut_line(chance: Random, path: Path) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = chance.randrange(len(lines)) if lines else 0
    rewrite(path, b"".join(lines[:kept]))
    return f"cut to {kept} of {len(lines)} lines"


def _flip(chance: Random, path: Path) -> str:
    content = bytearray(path.read_bytes() or b"x")
    for _ in range(chance.randint(1, 20)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    rewrite(path, bytes(content))
    return "bits flipped"


def _with(content: Callable[[Random], bytes], said: str) -> Callable[[Random, Path], str]:
    def damage(chance: Random, path: Path) -> str:
        rewrite(path, content(chance))
        return said

    return damage


def _fifo(chance: Random, path: Path) -> str:
    clear(path)
    os.mkfifo(path)
    return "a named pipe"


def _folder(chance: Random, path: Path) -> str:
    clear(path)
    path.mkdir()
    if chance.random() < 0.5:
        (path / "x").write_text("x")
    return "a folder"


def _loop(chance: Random, path: Path) -> str:
    clear(path)
    path.symlink_to(path.name)
    return "a link to itself"


def _dangling(chance: Random, path: Path) -> str:
    clear(path)
    path.symlink_to("nowhere/at/all")
    return "a link to nothing"


def _device(chance: Random, path: Path) -> str:
    clear(path)
    device = chance.choice(["/dev/zero", "/dev/urandom", "/dev/null"])
    path.symlink_to(device)
    return f"a link to {device}"


def _gone(chance: Random, path: Path) -> str:
    clear(path)
    return "deleted"


ANY_FILE = {  # ways to damage any file; each returns what it did
    "truncated": _truncate,
    "empty": _with(lambda chance: b"", "empty"),
    "binary": _with(lambda chance: chance.randbytes(chance.choice([10, 3000])), "random bytes"),
    "zeros": _with(lambda chance: bytes(4096), "zeros"),
    "deleted": _gone,
    "folder": _folder,
    "pipe": _fifo,
    "loop": _loop,
    "dangling": _dangling,
    "device": _device,
}
JSON_FILE = ANY_FILE | {
    "deep list": _with(lambda chance: b"[" * NEST + b"]" * NEST, "lists nested 200,000 deep"),
    "deep object": _with(lambda chance: b'{"a":' * NEST + b"1" + b"}" * NEST, "objects nested 200,000 deep"),
    "list": _with(lambda chance: b"[1, 2]", "a list"),
    "scalar": _with(lambda chance: chance.choice([b"1", b'"x"', b"null", b"true", b"1e400"]), "a scalar"),
    "utf-16": lambda chance, path: rewrite(path, path.read_text().encode("utf-16")) or "UTF-16",
    "not utf-8": lambda chance, path: rewrite(path, path.read_bytes() + b"\xff\xfe\x80") or "no UTF-8",
    "empty object": _with(lambda chance: b"{}", "an empty object"),
    "digits": _with(lambda chance: b'{"seed": ' + b"9" * 5000 + b"}", "a number of 5,000 digits"),
    "twice": lambda chance, path: rewrite(path, path.read_bytes() * 2) or "written twice",
}
TEXT_FILE = ANY_FILE | {
    "lines": _cut_line,
    "header": lambda chance, path: (
        rewrite(path, b"".join(path.read_bytes().splitlines(keepends=True)[:1])) or "header only"
    ),
    "nul": lambda chance, path: rewrite(path, path.read_bytes().replace(b",", b"\x00,", 5)) or "NUL bytes",
    "not utf-8": lambda chance, path: rewrite(path, path.read_bytes() + b"\xff\xfe,\x80\n") or "no UTF-8",
}


def damage(chance: Random, path: Path, ways: dict[str, Callable[[Random, Path], str]]) -> str:
    "Damage a file in one of the ways; what was done, in words."
    name = chance.choice(sorted(ways))
    return f"{path.name}: {ways[name](chance, path)}"
