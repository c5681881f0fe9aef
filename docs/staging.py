"""From a notebook of `nbs/` to a page: directives out, exported code folded, mentions of notebooks linked."""

import ast
import copy
import re
from pathlib import Path

DIRECTIVE = re.compile(r"^\s*#\s*\|\s*([\w-]+):?[ \t]*(.*)$")
EXPORTS = {"export", "exporti", "exports"}
TAGS = {  # what a directive of a cell means for its page
    "hide": "remove-cell",
    "hide_input": "remove-input",
    "hide_output": "remove-output",
    "skip": "skip-execution",
    "slow": "skip-execution",
    "cuda": "skip-execution",
} | dict.fromkeys(EXPORTS, "hide-input")


def directives_of(source: str) -> tuple[dict[str, str], str]:
    "The `#|` directives at the head of a cell, as name -> argument, and the cell without them."
    found, lines = {}, source.split("\n")
    while lines and (match := DIRECTIVE.match(lines[0])):
        found[match[1]] = match[2].strip()
        lines.pop(0)
    return found, "\n".join(lines).strip("\n")


def names_in(source: str) -> list[str]:
    "What the code of a cell defines: functions, classes and constants; private ones where there is nothing else."
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell magic
        return []
    names = []
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    names = list(dict.fromkeys(names))
    return [name for name in names if not name.startswith("_")] or names


def stage_cell(cell: dict) -> dict | None:
    "A cell without directives, tagged as they say; None where nothing is left of it."
    cell = copy.deepcopy(cell)
    if cell["cell_type"] != "code":
        return cell
    found, source = directives_of("".join(cell["source"]))
    if found and not source:
        return None
    tags = cell["metadata"].setdefault("tags", [])
    tags += [TAGS[name] for name in found if name in TAGS and TAGS[name] not in tags]
    if found.get("eval") == "false":
        tags.append("skip-execution")
    if "hide-input" in tags:
        names = names_in(source)
        label = ", ".join(names[:5]) + (" …" if len(names) > 5 else "") if names else "imports"
        cell["metadata"]["mystnb"] = {"code_prompt_show": f"Code: {label}", "code_prompt_hide": f"Code: {label}"}
    cell["source"], cell["outputs"], cell["execution_count"] = source, [], None
    return cell


def module_of(notebook: dict) -> str:
    "The module that a notebook exports, with the package's name before it; empty for none."
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            found, _ = directives_of("".join(cell["source"]))
            if "default_exp" in found:
                return f"covid_workbench.{found['default_exp']}"
    return ""


def stage_notebook(notebook: dict) -> dict:
    "The notebook as a page shows it and as it is executed: the same cells, without directives and outputs."
    cells = [stage_cell(cell) for cell in notebook["cells"]]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    return {
        "cells": [cell for cell in cells if cell is not None],
        "metadata": kernel,
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def markdown(identity: str, text: str) -> dict:
    "A Markdown cell."
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": text}


def add_note(notebook: dict, text: str) -> None:
    "Put a paragraph below title and subtitle of a staged notebook."
    first = next(place for place, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "markdown")
    notebook["cells"].insert(first + 1, markdown("docs-note", text))


def link_notebooks(text: str, known: dict[str, str]) -> str:
    "`nbs/folder/name.ipynb` in backticks becomes a link to that page; `known` are path -> title."

    def link(match: re.Match) -> str:
        return f"[{known[match[1]]}](/{match[1]})" if match[1] in known else match[0]

    return re.sub(r"`nbs/([\w./-]+\.ipynb)`", link, text)


def write_changed(path: Path, text: str) -> None:
    "Write a file unless it holds this already: Sphinx reads again what is newer."
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
