"""API pages: one a module, docstrings in the order of the source, and a link to its notebook."""

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


class Renderer(MystRenderer):
    "A module as a page without summary tables: title, notebook, then every public name."

    def render_package(self, item: dict) -> Iterator[str]:
        name = item["full_name"]
        yield f"# {name.removeprefix(PACKAGE + '.')}"
        yield ""
        yield f"```{{py:module}} {name}\n```\n"
        if self.show_docstring(item):
            yield f"```{{autodoc2-docstring}} {name}\n:parser: myst\n:allowtitles:\n```\n"
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
        "A class; where it has no constructor of its own, its annotated fields make the signature (dataclasses)."
        first, *rest = super().render_class(item)
        if "(" not in first:
            fields = [
                child for child in self.get_children(item, {"attribute"}, omit_hidden=False) if child.get("annotation")
            ]
            fields = [child for child in fields if not child["full_name"].split(".")[-1].startswith("_")]
            arguments = [
                (None, child["full_name"].split(".")[-1], child["annotation"], child.get("value")) for child in fields
            ]
            first += f"({self.format_args(arguments, self.show_annotations(item))})" if arguments else ""
        yield first
        yield from rest

    def is_hidden(self, item: dict) -> bool:
        "Packages and modules are shown without a docstring, too."
        return item["type"] not in ("package", "module") and super().is_hidden(item)

    def _order(self, item: dict) -> tuple[str, str]:
        "Modules by the number of their notebook, packages by that of their first module."
        below = [item, *self.get_children(item, {"module"})]
        notebooks = [notebook_of(one.get("file_path")) for one in below]
        return min((name for name in notebooks if name[:1].isdigit()), default="~"), item["full_name"]
