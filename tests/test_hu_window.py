"""The reader's window on Hounsfield units: what the page gets, what stays as it was, what the model still sees."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from covid_workbench.data import planes
from covid_workbench.data.planes import Plane, read_plane
from covid_workbench.data.windows import WINDOWS, apply_window
from covid_workbench.errors import InputError
from covid_workbench.widgets.content import AS_MODEL, hu_traits
from covid_workbench.widgets.explorer import AttentionExplorer
from covid_workbench.widgets.lesions import LesionBrowser
from covid_workbench.widgets.saved import _windowed


def as_hu(pixels: np.ndarray) -> np.ndarray:
    "HU that the lung window turns into these grey values again."
    low, high = WINDOWS["lung"]
    return np.rint(low + pixels.astype(float) * (high - low) / 255).astype(np.int16)


@pytest.fixture
def with_hu(monkeypatch):
    "Every picture is read as if its file had HU."

    def read(*where, **how):
        pixels = read_plane(*where, **how).pixels
        return Plane(apply_window(as_hu(pixels)), as_hu(pixels), (0.7, 0.7))

    monkeypatch.setattr(planes, "read_plane", read)


def test_8_bit_slices_are_sent_as_before(finished):
    explorer, browser = AttentionExplorer(finished), LesionBrowser(finished)
    for part, shown in ((explorer.panes[0].canvas, explorer.browser.slice), (browser, browser.slice)):
        table = finished.table
        image = table.where(table.frame["id"] == shown).read(0)
        assert part.pixels == image.pixels.tobytes() and part.shape == list(image.pixels.shape)
        assert part.hu == b"" and part.hu_presets == {} and part.hu_window == []
    page, canvas = explorer.page(), explorer.panes[0].canvas
    assert '"hu": {"deflate"' not in re.search(r'id="told">(.*?)</script>', page, re.S)[1]
    canvas.hu_window = [-160.0, 240.0]  # acts on HU alone
    assert (_windowed(canvas) == np.frombuffer(canvas.pixels, np.uint8).reshape(canvas.shape)).all()


def test_the_page_gets_hu_and_the_model_its_window(finished, with_hu):
    explorer = AttentionExplorer(finished)
    pane, canvas = explorer.panes[0], explorer.panes[0].canvas
    image = explorer.view.slices.table.where(explorer.table.frame["id"] == explorer.browser.slice).read(0)
    assert np.frombuffer(canvas.hu, "<i2").reshape(canvas.shape).tolist() == image.hu.tolist()
    assert list(canvas.hu_presets) == [AS_MODEL, *WINDOWS] and canvas.hu_presets[AS_MODEL] == [-1350, 150]
    assert (_windowed(canvas) == image.pixels).all()
    held, regions, answer, crops = canvas.pixels, canvas.regions, pane.verdict.answer, canvas.crops
    before = explorer.picture().svg
    for name, ends in WINDOWS.items():
        canvas.hu_window = list(ends)
        assert (_windowed(canvas) == apply_window(image.hu, ends)).all(), name
    assert (canvas.pixels, canvas.regions, pane.verdict.answer, canvas.crops) == (held, regions, answer, crops)
    assert explorer.picture().svg != before


def test_a_set_with_a_window_of_its_own(finished, with_hu):
    image = finished.table.described(finished.table.description.replace(window=(-1000.0, 400.0))).read(0)
    assert hu_traits(image)["hu_presets"][AS_MODEL] == [-1000.0, 400.0]


def test_a_view_keeps_its_window(finished, with_hu):
    explorer = AttentionExplorer(finished)
    explorer.panes[0].canvas.hu_window = [-160.0, 240.0]
    held = json.loads(json.dumps(explorer.state))
    other = AttentionExplorer(finished, state=held)
    assert other.panes[0].canvas.hu_window == [-160.0, 240.0] and other.state == held
    held.pop("hu_window")  # a view from before there was one
    other.state = held
    assert other.panes[0].canvas.hu_window == []
    for wrong in ([240.0, -160.0], [0.0], [-40000.0, 0.0]):
        with pytest.raises(InputError, match="hu_window .*give the low and the high end in HU"):
            other.state = held | {"hu_window": wrong}


def test_a_saved_page_has_the_hu_packed(finished, with_hu):
    explorer = AttentionExplorer(finished)
    canvas, told = explorer.panes[0].canvas, re.search(r'id="told">(.*?)</script>', explorer.page(), re.S)[1]
    traits = next(part["traits"] for part in json.loads(told)["parts"] if part["kind"] == "SliceCanvas")
    packed = base64.b64decode(traits["hu"]["deflate"])
    assert zlib.decompress(packed) == canvas.hu and len(packed) < len(canvas.hu)


def test_the_lesion_browser_sends_hu_with_its_pixels(finished, with_hu):
    browser, sent = LesionBrowser(finished), []
    wanted = browser.slices[0]["id"]
    image = browser.reader.volumes.where(wanted).read(0)
    browser.send = lambda message, buffers=None: sent.append((message, buffers))
    browser._heard(None, {"want": [wanted]}, None)
    ((message, buffers),) = sent
    assert message["pixels"] == wanted and message["hu_presets"] == hu_traits(image)["hu_presets"]
    assert buffers == [image.pixels.tobytes(), image.hu.astype("<i2").tobytes()]
    plain = browser.picture().svg
    browser.hu_window = [-160.0, 240.0]
    assert browser.picture().svg != plain and browser.state["hu_window"] == [-160.0, 240.0]
