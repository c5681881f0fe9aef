"The pictures of notebooks and README: drawn anew they are the committed ones; all are shown, all have alt text."

import base64
import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from house import ROOMS
from PIL import Image

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "nbs" / "images"
sys.path.insert(0, str(IMAGES))

from draw.pictures import PICTURES  # noqa: E402
from draw.rooms import ROOMS as DRAWN_ROOMS  # noqa: E402
from draw.slices import phantom  # noqa: E402

EMBEDDED = re.compile(r'data:image/[a-z]+;base64,([^"]+)')
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]*images/[^)\s]+)\)")
LINKED = re.compile(r"\]\(([^)\s]*images/[^)\s]+)\)")


def pages() -> dict[str, str]:
    "Name -> text of every page on which a picture can be shown; of notebooks the Markdown."
    notebooks = {path: path.read_text() for path in sorted((ROOT / "nbs").rglob("*.ipynb"))}
    return notebooks | {path: path.read_text() for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")}


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return {name: draw() + "\n" for name, draw in PICTURES.items()}


def raster(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address))).convert("L"), int)


@pytest.mark.parametrize("name", PICTURES)
def test_drawn_again_it_is_the_committed_picture(drawn, name):
    again, committed = drawn[name], (IMAGES / f"{name}.svg").read_text()
    assert EMBEDDED.sub("", again) == EMBEDDED.sub("", committed), "make pictures"
    for ours, theirs in zip(EMBEDDED.findall(again), EMBEDDED.findall(committed), strict=True):
        if ours != theirs:  # another processor or compressor: the same grey values, but for rounding
            assert np.abs(raster(ours) - raster(theirs)).max() <= 3, "make pictures"


def test_drawing_twice_gives_the_same_bytes(drawn):
    phantom.cache_clear()
    assert drawn == {name: draw() + "\n" for name, draw in PICTURES.items()}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_on_code_hosting_sites(drawn, name):
    svg = ElementTree.fromstring(drawn[name])
    tags = {element.tag.rpartition("}")[2] for element in svg.iter()}
    assert not tags & {"script", "foreignObject", "style"}
    assert len(svg[0].text) > 20, "a title that says what is to be seen"
    assert len(drawn[name]) < 60_000
    outside = [value for element in svg.iter() for key, value in element.attrib.items() if key.endswith("href")]
    assert all(value.startswith(("data:image/", "#")) for value in outside)


def test_every_picture_is_shown_and_every_shown_picture_exists():
    held = {path.name for path in IMAGES.iterdir() if path.is_file()}
    shown = {(page.parent / address).resolve() for page, text in pages().items() for address in LINKED.findall(text)}
    assert {path.name for path in shown} == held
    assert [str(path) for path in shown if not path.is_file()] == []


def test_every_shown_picture_has_words_for_those_who_cannot_see_it():
    for page, text in pages().items():
        for words, address in SHOWN.findall(text):
            assert len(words.split()) >= 5, f"{page.name}: {address}"


def test_the_map_shows_the_rooms_in_the_order_of_imports():
    assert tuple(name for name, *_ in DRAWN_ROOMS) == ROOMS
