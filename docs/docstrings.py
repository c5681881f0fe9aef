"""Docstrings as Markdown: an example with `>>>` is a block of code, not the quotation of a quotation."""

import re

from myst_parser.sphinx_ import Parser as MarkdownParser

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).*)*", re.MULTILINE)  # up to the next empty line


def fence_examples(text: str) -> str:
    "Put every example into a fence."
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```", text)


class Parser(MarkdownParser):
    "What autodoc2 calls for a docstring."

    def parse(self, inputstring: str, document) -> None:
        super().parse(fence_examples(inputstring), document)
