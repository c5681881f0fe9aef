"""Fingers, the mouse and Escape on rows that are dragged, and two fingers on the slice, each part alone in Chromium."""

import json

import pytest
from test_rows import BROWSER, MODEL, SEQUENCE, STATIC, VOLUME

LOOK = dict(shape=[100, 100], window=255, level=127.5, camera={"x": 0, "y": 0, "zoom": 1}, order="distance")
CANVAS = SEQUENCE | LOOK | dict(truth=[], layers=["boxes"], color_by="positive")
ROWS = {
    "regions": ("sequence panel", SEQUENCE | dict(orders=["distance"]), "[data-slot='{}']", [1, 2, 0]),
    "slices": ("sequence volume_panel", VOLUME, "[data-place='{}']", [1, 2, 0, 3]),
}


@pytest.fixture
def alone(browser):
    "Opens a part by itself: a page, and `touch(kind, *points)` for fingers at points."
    contexts, wrong = [], []

    def open_part(names: str, traits: dict, wait: str):
        context = browser.new_context(has_touch=True, viewport={"width": 700, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        style = "".join((STATIC / f"{name}.css").read_text() for name in ("explorer", "marks"))
        page.set_content(f"<style>{style}</style><div id=part style='width:600px'></div><p style='height:3000px'>")
        script = "\n".join((STATIC / f"{name}.js").read_text() for name in ("common", *names.split()))
        script = script.replace("export default { render };", MODEL % json.dumps(traits))
        page.add_script_tag(content=script, type="module")
        page.locator(wait).first.wait_for(timeout=20000)
        devtools = context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[float, float]):
            told = [dict(x=x, y=y, id=number) for number, (x, y) in enumerate(points)]
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

        return page, touch

    yield open_part
    for context in contexts:
        context.close()
    assert wrong == []


def middle(locator) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def on_the_way(one, other, steps=4):
    "Points from one to the other."
    return [tuple(a + (b - a) * at / steps for a, b in zip(one, other)) for at in range(1, steps + 1)]


@pytest.mark.parametrize("what", ROWS)
@pytest.mark.parametrize("by", ["mouse", "finger", "finger beside the grip", "mouse, then Escape"])
def test_a_row_is_dragged_to_another_rank(alone, what, by):
    names, traits, row, moved = ROWS[what]
    ranks = (1, 3) if what == "regions" else (0, 2)
    page, touch = alone(names, traits, "[data-movable]")
    first, third = (page.locator(row.format(rank)).first for rank in ranks)
    if (
        by == "finger beside the grip"
    ):  # a browser that does not scroll takes no finger away: only the rows' rule is left
        page.add_style_tag(content="* { touch-action: none !important }")
    if "finger" in by:
        start = middle(first.locator(".cw-grip" if by == "finger" else ".cw-name").first)
        touch("touchStart", start)
        for point in on_the_way(start, middle(third)):
            touch("touchMove", point)
        touch("touchEnd")
    else:
        start = middle(first)
        page.mouse.move(*start)
        page.mouse.down()
        for point in on_the_way(start, middle(third)):
            page.mouse.move(*point)
        page.locator(".drop").wait_for(timeout=5000)  # where it would go is shown
        if "Escape" in by:
            page.keyboard.press("Escape")
        page.mouse.up()
    page.wait_for_function("() => !document.querySelector('.dragging, .drop')")
    asked = page.evaluate("[window.m.get('order'), window.m.get('sequence')]")
    stays = by in ("finger beside the grip", "mouse, then Escape")
    assert asked == ([traits["order"], []] if stays else ["custom", moved])
    chosen = page.evaluate("window.m.get('selected') ?? null")
    assert chosen in (None, [0]) or stays  # what was moved


def test_two_fingers_zoom_and_one_moves(alone):
    page, touch = alone("viewport canvas", CANVAS, ".cw-stage")
    box = page.locator(".cw-stage").bounding_box()
    side, at = box["width"], lambda u, v: (box["x"] + u * box["width"], box["y"] + v * box["height"])
    touch("touchStart", at(0.4, 0.5))
    touch("touchStart", at(0.4, 0.5), at(0.6, 0.5))
    for share in (0.15, 0.2, 0.25):
        touch("touchMove", at(0.5 - share, 0.5), at(0.5 + share, 0.5))
    touch("touchMove", at(0.3, 0.6), at(0.7, 0.6))  # apart twice as far, and down by a tenth
    camera = page.evaluate("window.m.get('camera')")
    assert camera["zoom"] == pytest.approx(2, abs=0.05)
    assert (camera["x"], camera["y"]) == pytest.approx((0.25, 0.2), abs=0.02)  # what was between them still is
    touch("touchEnd", at(0.3, 0.6))
    touch("touchEnd")
    assert page.evaluate("window.m.get('selected')") == [] and page.evaluate("scrollY") == 0

    touch("touchStart", at(0.5, 0.5))
    for share in (0.45, 0.4, 0.35, 0.3):
        touch("touchMove", at(share, 0.5))
    touch("touchEnd")
    moved = page.evaluate("window.m.get('camera')")
    assert moved["x"] == pytest.approx(camera["x"] + 0.2 / 2, abs=0.03) and moved["zoom"] == camera["zoom"]
    assert side > 300


def test_a_finger_scrolls_the_page_over_a_slice_that_fits(alone):
    page, touch = alone("viewport canvas", CANVAS, ".cw-stage")
    x, y = middle(page.locator(".cw-stage"))
    touch("touchStart", (x, y))
    for point in on_the_way((x, y), (x, y - 200), 8):
        touch("touchMove", point)
    touch("touchEnd")
    page.wait_for_function("() => scrollY > 50", timeout=10000)
    assert page.evaluate("window.m.get('camera')") == LOOK["camera"]


def test_slices_are_marked_and_kept(alone):
    selections = [dict(name="<b>edge</b>", note="left lung", slices=["s2"], gone=3)]
    page, _ = alone(
        "marks answering browser", BROWSER | dict(markable=True, marked=[], selections=selections), "[data-key=mark]"
    )
    page.evaluate("() => { m.sent = []; m.send = (said) => { m.sent.push(said); }; }")
    page.locator(".cw-patients").focus()
    page.keyboard.press("s")
    page.locator(".cw-slice.marked[data-slice=s0]").wait_for(timeout=10000)
    page.locator("[data-key=mark][aria-pressed=true]").wait_for(timeout=10000)
    page.locator(".cw-keep summary").click()
    page.get_by_label("name of the selection").fill("skies")  # an s is a letter here
    page.get_by_label("note on the selection").fill("as seen")
    page.locator("[data-key=keep]").click()
    kept = {"keep": {"name": "skies", "note": "as seen", "slices": ["s0"]}}
    page.wait_for_function(
        "(kept) => m.sent.some((one) => JSON.stringify(one) === kept)", arg=json.dumps(kept, separators=(",", ":"))
    )
    assert page.evaluate("window.m.get('marked')") == ["s0"]

    menu = page.get_by_label("among which slices")
    assert menu.locator("option").all_inner_texts() == ["every slice", "marked (1)", "<b>edge</b> (1, 3 not here)"]
    for choice, left in (("marked", ["s0"]), ("in:<b>edge</b>", ["s2"]), ("", ["s0", "s1", "s2"])):
        menu.select_option(choice)
        page.wait_for_function("(many) => document.querySelectorAll('.cw-slice').length === many", arg=len(left))
        assert page.locator(".cw-slice").evaluate_all("all => all.map((one) => one.dataset.slice)") == left
    menu.select_option("marked")
    page.locator("[data-key=mark][aria-pressed=true]").click()  # the last of them goes
    page.get_by_text("No slice is left by this filter.").wait_for(timeout=10000)
    page.evaluate("m.heard['msg:custom'].forEach((run) => run({ marks: 'not written' }))")
    page.locator(".cw-marks [role=status]", has_text="not written").wait_for(timeout=10000)
