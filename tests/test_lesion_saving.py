"""The lesion browser's header: undo and reset of what was chosen, links, and pages and pictures that are saved."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from covid_workbench.errors import InputError
from covid_workbench.widgets import lesions
from covid_workbench.widgets.lesions import LesionBrowser


@pytest.fixture(scope="module")
def opened(finished):
    return LesionBrowser(finished)


@pytest.fixture
def browser(opened):
    "A browser as it was opened, and `sent`: what its page was told."
    opened.reset()
    opened.history.clear()
    opened._told()
    opened.sent = []
    opened.send = lambda content, *_: opened.sent.append(content)
    return opened


def act(browser, what, **more):
    browser._heard(None, {"act": what, **more}, None)


def test_choices_are_undone_redone_and_reset(browser):
    first = (browser.score, browser.iou, list(browser.layers))
    assert not (browser.can_undo or browser.can_redo or browser.dirty)
    browser.iou = 0.3
    browser.layers = ["truth"]
    assert browser.can_undo and browser.dirty
    act(browser, "undo")
    assert (browser.iou, list(browser.layers)) == (0.3, first[2]) and browser.can_redo
    act(browser, "undo")
    assert (browser.score, browser.iou) == first[:2] and not browser.can_undo and not browser.dirty
    act(browser, "redo")
    act(browser, "redo")
    assert (browser.iou, browser.layers) == (0.3, ["truth"]) and not browser.can_redo
    act(browser, "undo")
    browser.score = 0.9  # another way: what was undone is gone
    assert not browser.can_redo
    act(browser, "reset")
    assert (browser.score, browser.iou, list(browser.layers)) == first and not browser.dirty
    act(browser, "undo")
    assert browser.score == 0.9


def test_a_slider_that_is_moved_is_one_step(browser, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(lesions.time, "monotonic", lambda: now[0])
    for score in (0.51, 0.55, 0.6):
        browser.score, now[0] = score, now[0] + 0.1
    now[0] += 60
    for score in (0.7, 0.8):
        browser.score, now[0] = score, now[0] + 0.1
    browser.undo()
    assert browser.score == 0.6
    browser.undo()
    assert browser.score == 0.5 and not browser.can_undo


def test_looking_on_is_no_step_and_a_link_has_it(browser):
    other = next(entry["id"] for entry in browser.slices if entry["id"] != browser.slice)
    begun = browser.slice
    browser.slice, browser.camera, browser.score = other, {"x": 0.1, "y": 0.0, "zoom": 2.0}, 0.25
    assert json.loads(browser.state_text) == browser.state
    held = browser.state
    browser.undo()
    assert browser.slice == other and browser.camera["zoom"] == 2.0 and browser.score == 0.5
    browser.slice, browser.iou = begun, 0.4
    assert browser.can_undo
    act(browser, "open", state=f"http://127.0.0.1/lab#cw={json.dumps(held)}")
    assert browser.state == held and not browser.can_undo and not browser.can_redo and browser.dirty
    act(browser, "open", state=json.dumps(held | {"slice": "gone"}))
    said = [one["message"] for one in browser.sent if one.get("message")]
    assert len(said) == 1 and "slice 'gone' is not among" in said[0] and browser.state == held


def told_by(text: str) -> dict:
    "The traits of the one part of a page."
    return json.loads(re.search(r'id="told">(.*?)</script>', text, re.DOTALL)[1])["parts"][0]["traits"]


def numbers(held: dict, kind=np.uint8) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(held["deflate"])), kind)


def test_a_page_holds_the_volume(browser, tmp_path):
    browser.score = 0.2
    browser.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    traits = told_by(text)
    assert ".cwl-grid" in text and "http://" not in text.replace("http://www.w3.org", "")
    assert traits["score"] == 0.2 and traits["volume"] == browser.volume
    assert [one["id"] for one in traits["slices"]] == browser.reader.volumes.ids(browser.volume)
    assert all(one["read"] for one in traits["slices"])
    table = browser.reader.volumes.table
    for slice_id, (place, more) in traits["held_slices"].items():
        row = list(table.frame["id"]).index(slice_id)
        pixels = table.read(row).pixels
        assert more["shape"] == list(pixels.shape)
        assert (numbers(traits[f"pixels {place}"]) == pixels.ravel()).all()
    assert len(traits["held_slices"]) == len(traits["slices"])


def test_a_page_holds_what_fits_the_nearest_first(browser, monkeypatch):
    monkeypatch.setattr(lesions, "MOST_HELD", 1)
    assert list(told_by(browser.page())["held_slices"]) == [browser.slice]


def test_what_is_saved_is_sent_to_the_browser(browser, tmp_path):
    for kind, begin in (("html", "<!doctype html>"), ("svg", "<svg"), ("png", "<svg")):  # a PNG is drawn there
        act(browser, "save", **{"as": kind})
        sent = [one for one in browser.sent if "save" in one][-1]
        assert sent["save"] == f"attention-{browser.slice}.{kind}" and sent["text"].lstrip().startswith(begin)
    browser.save(tmp_path / "view.svg")
    assert (tmp_path / "view.svg").read_text().lstrip().startswith("<")
    with pytest.raises(InputError, match="save as .svg or .html"):
        browser.save(tmp_path / "view.pdf")
