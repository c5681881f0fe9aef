"""The house in figures: rooms, imports between them, and how long cells, functions, classes and lines are.

`make house` prints them for this checkout; `python tests/house.py FOLDER ...` for others, side by side.
"""

import ast
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOMS = (
    *("base", "data", "models", "volumes", "runs", "evaluation", "training", "reports", "studies", "parity"),
    *("speed", "widgets", "doors"),
)
BASE = (
    *("errors", "files", "settings", "progress", "locks", "headless", "schemas", "picture_files", "hashes", "rows"),
    *("ending", "arguments", "coco_files", "ranks", "prefetch", "packed_files", "row_files", "extras"),
    *("run_lengths", "average_precision", "shapes", "tubes", "metaimage_files", "words", "figure_names"),
    "side_by_side",
)
LIMITS = {"cell": 40, "function": 40, "class": 120, "line": 120}


@dataclass
class Piece:
    "Something with a length: `where` it is and how many lines (a line: characters) it has."

    kind: str
    where: str
    length: int


@dataclass
class House:
    "What `measure` found in a checkout: pieces by kind, and module -> modules that it imports when it is imported."

    pieces: list[Piece] = field(default_factory=list)
    imports: dict[str, set[str]] = field(default_factory=dict)

    def over(self, kind: str) -> list[Piece]:
        "The pieces of a kind beyond its limit, the longest first."
        found = [piece for piece in self.pieces if piece.kind == kind and piece.length > LIMITS[kind]]
        return sorted(found, key=lambda piece: -piece.length)


def measure(root: Path) -> House:
    "Measure the notebooks, the package and the JavaScript of a checkout."
    house = House()
    for path in sorted(root.glob("nbs/**/*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                _measure_cell(house, f"{path.relative_to(root)} {cell['id']}", "".join(cell["source"]))
    for path in sorted((root / "covid_workbench").rglob("*.js")):
        _measure_lines(house, str(path.relative_to(root)), path.read_text())
    for path in sorted((root / "covid_workbench").rglob("*.py")):
        if path.name != "_modidx.py":
            name = ".".join(path.relative_to(root / "covid_workbench").with_suffix("").parts)
            house.imports[name.removesuffix(".__init__")] = _imports(path, root / "covid_workbench")
    return house


def _measure_cell(house: House, where: str, source: str) -> None:
    house.pieces.append(Piece("cell", where, source.count("\n") + 1))
    _measure_lines(house, where, source)
    if source.startswith("%%"):
        return
    for node in ast.walk(
        ast.parse("\n".join("" if line.startswith(("%", "!")) else line for line in source.split("\n")))
    ):
        kind = {ast.FunctionDef: "function", ast.AsyncFunctionDef: "function", ast.ClassDef: "class"}.get(type(node))
        if kind:
            house.pieces.append(Piece(kind, f"{where} {node.name}", node.end_lineno - node.lineno + 1))


def _measure_lines(house: House, where: str, source: str) -> None:
    for number, line in enumerate(source.splitlines(), start=1):
        house.pieces.append(Piece("line", f"{where}:{number}", len(line)))


def _imports(path: Path, package: Path) -> set[str]:
    "Modules of the package that a module imports, within functions, too."
    folder, found = path.relative_to(package).parent.parts, set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            start = folder[: len(folder) - node.level + 1]
        elif (node.module or "").split(".")[0] == package.name:
            start = ()
        else:
            continue
        words = (node.module or "").split(".") if node.level else node.module.split(".")[1:]
        base = [*start, *filter(None, words)]
        for alias in node.names:
            whole = package.joinpath(*base, alias.name)
            module = [*base, alias.name] if whole.with_suffix(".py").is_file() or whole.is_dir() else base
            found.add(".".join(module))
    return found - {""}


def room_of(module: str) -> str:
    "The room of a module by its name; the front door and the command line are doors."
    first = module.split(".")[0]
    return first if first in ROOMS else "base" if first in BASE else "doors"


def upward(house: House) -> list[tuple[str, str]]:
    "Imports of a room that lies further down the way of the data."
    order = {room: number for number, room in enumerate(ROOMS)}
    return [
        (module, other)
        for module, others in house.imports.items()
        for other in sorted(others)
        if order[room_of(other)] > order[room_of(module)]
    ]


def circles(house: House) -> list[list[str]]:
    "Chains of imports that come back to where they began."
    found, done = [], set()

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
        elif module not in done:
            for other in house.imports.get(module, ()):
                walk(other, [*trail, module])
            done.add(module)

    for module in house.imports:
        walk(module, [])
    return found


def numbers(root: Path) -> list[tuple[int, str]]:
    "(number, module) of every notebook in the order of the numbers."
    names = [re.match(r"(\d+)_(.+)", path.stem) for path in root.glob("nbs/*.ipynb")]
    return sorted((int(match[1]), match[2]) for match in names if match)


def summary(house: House) -> dict[str, str]:
    "Words -> figure, for a table."
    rows = {}
    for kind, limit in LIMITS.items():
        lengths = sorted(piece.length for piece in house.pieces if piece.kind == kind)
        plural = "classes" if kind == "class" else f"{kind}s"
        unit = "characters" if kind == "line" else "lines"
        rows[plural] = f"{len(lengths)}"
        rows[f"{plural} over {limit} {unit}"] = f"{len(house.over(kind))}"
        rows[f"longest {kind}"] = f"{lengths[-1] if lengths else 0}"
        rows[f"median {kind}"] = f"{lengths[len(lengths) // 2] if lengths else 0}"
    return rows | {"imports upward": f"{len(upward(house))}", "circles": f"{len(circles(house))}"}


def main(folders: list[str]) -> None:
    "Print the figures of checkouts side by side; of a single one, what is over a limit."
    houses = [measure(Path(folder)) for folder in folders]
    tables = [summary(house) for house in houses]
    for words in tables[0]:
        print(f"{words:34s}" + "".join(f"{table[words]:>12s}" for table in tables))
    if len(houses) == 1:
        for kind in LIMITS:
            for piece in houses[0].over(kind):
                print(f"{kind:9s} {piece.length:5d}  {piece.where}")
        for module, other in upward(houses[0]):
            print(f"upward    {module} -> {other}")
        for circle in circles(houses[0]):
            print(f"circle    {' -> '.join(circle)}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["."])
