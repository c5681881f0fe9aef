"""API pages: one a module, docstrings in the order of the source, and a link to its notebook."""

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from autodoc2.render.myst_ import MystRenderer

MADE_FROM = re.compile(r"File to edit: (?:\.\./)+nbs/(\S+\.ipynb)")
PACKAGE = "covid_workbench"


def notebook_of(file: str | None) -> str:
    "The notebook that a module was exported from, as a path below `nbs`; empty for none."
    if not file or not Path(file).is_file():
        return ""
    found = MADE_FROM.search(Path(file).read_text(encoding="utf-8"))
    return found[1].rstrip(".") if found else ""


def argument_of(field: dict) -> tuple[None, str, str, str | None]:
    "A dataclass field as an argument: prefix, name, annotation, default as Python writes it."
    value, annotation = field.get("value"), field["annotation"]
    if value is not None and not (isinstance(value, str) and (value.endswith("(...)") or annotation != "str")):
        value = repr(tuple(value) if isinstance(value, list) else value)
    return None, field["full_name"].split(".")[-1], annotation, value


def settings_table(full_name: str) -> list[str] | None:
    "The settings that a class adds to those of its bases, as a table; None for a class without settings."
    module, _, name = full_name.rpartition(".")
    kind = getattr(importlib.import_module(module), name, None)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    if not any("help" in field.metadata for field in fields):
        return None
    own = [field for field in fields if field.name in vars(kind).get("__annotations__", {})]
    rows = [f"| `{field.name}` | `{field.default!r}` | {_cell(field.metadata['help'])} |" for field in own]
    return ["| setting | default | meaning |", "|---|---|---|", *rows, ""] if rows else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


class Renderer(MystRenderer):
    "A module as a page without summary tables: title, notebook, then every public name."

    def render_package(self, item: dict) -> Iterator[str]:
        name = item["full_name"]
        yield f"# {name.removeprefix(PACKAGE + '.')}"
        yield ""
        yield f"```{{py:module}} {name}\n```\n"
        if self.show_docstring(item):
            yield f"```{{autodoc2-docstring}} {name}\n:parser: docstrings\n:allowtitles:\n```\n"
        notebook = notebook_of(item.get("file_path"))
        if notebook:
            yield f"`import {name}` · explained and tested in the notebook [](/{notebook})\n"
        modules = sorted(self.get_children(item, {"package", "module"}), key=self._order)
        if modules:
            names = "\n".join(module["full_name"] for module in modules)
            yield f"```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
        for child in self.get_children(item):
            if child["type"] not in ("package", "module"):
                yield from self.render_item(child["full_name"])

    def render_class(self, item: dict) -> Iterator[str]:
        """A class; where it has no constructor of its own, its annotated fields make the signature (dataclasses).

        Settings have too many for that: they get a table.
        """
        first, *rest = super().render_class(item)
        table = settings_table(item["full_name"])
        fields = self.get_children(item, {"attribute"}, omit_hidden=False)
        if "(" not in first and table is None:
            arguments = [argument_of(field) for field in fields if field.get("annotation")]
            arguments = [argument for argument in arguments if not argument[1].startswith("_")]
            first += f"({self.format_args(arguments, self.show_annotations(item))})" if arguments else ""
        yield first
        yield from rest[:-2]  # before the end of the block and an empty line
        yield from table or ()
        yield from rest[-2:]

    def is_hidden(self, item: dict) -> bool:
        "Packages and modules are shown without a docstring, too."
        return item["type"] not in ("package", "module") and super().is_hidden(item)

    def _order(self, item: dict) -> tuple[str, str]:
        "Modules by the number of their notebook, packages by that of their first module."
        below = [item, *self.get_children(item, {"module"})]
        notebooks = [notebook_of(one.get("file_path")) for one in below]
        return min((name for name in notebooks if name[:1].isdigit()), default="~"), item["full_name"]
