"""Rows of the explorers, each part alone in Chromium on a model without a kernel: a press chooses, once, also where the
row is drawn anew before the button is up; so does the click of a keyboard or a screen reader."""

import json

import pytest
from lab import ROOT

STATIC = ROOT / "covid_workbench/widgets/static"
MODEL = """
window.m = {
  traits: %s, heard: {},
  get(name) { return this.traits[name]; },
  set(name, value) { this.traits[name] = value; (this.heard[`change:${name}`] ?? []).forEach((run) => run()); },
  save_changes() {}, off() {},
  on(event, run) { (this.heard[event] ??= []).push(run); },
  send(said) { if (said.ready) setTimeout(() => this.heard["msg:custom"].forEach((run) => run({ alive: true }))); },
};
render({ model: window.m, el: document.getElementById("part") });"""
REGIONS = [dict(id=at, index=at, box=[0, 0, 9, 9], score=0.5, name="lesion", distance=1.0) for at in range(3)]
ASKED = dict(off=[], off_mode="dropped", classes=["A", "B"], effect_class="A", effects={}, frozen="", sequence=[])
SEQUENCE = ASKED | dict(
    **dict(regions=REGIONS, slots=[0, 1, 2], all=[0, 1, 2], weights=[[0.5, 0.3, 0.2]], selected=[], hovered=None),
    **dict(order="distance", own_order="distance", orders=["distance", "score"], beta=3, own_beta=3, note=""),
)
VOLUME = ASKED | dict(
    **dict(slices=[dict(id=f"s{at}", read=True, lesion=0.1) for at in range(4)], reading=[0, 1, 2, 3], place=0),
    **dict(attention={"0": 0.7, "1": 0.3}, order="axial", orders=["axial", "reversed"], exact=False, notes=[]),
)
SLICES = [dict(id=f"s{at}", patient="p", label="A", said=["A"], p=0.5) for at in range(3)]
BROWSER = dict(
    **dict(slices=SLICES, slice="s0", filter={"kind": "all"}, browser_order="as stored", noun="slice"),
    **dict(markable=False, marked=[], selections=[], answering={}, opened="s0", picked=None, picked_words=""),
)
PAIRS = [dict(id=7, labels=["1", "2"], iou=0.8, shares=[0.5, 0.2])]
DIFFERENCE = dict(
    **dict(rows=PAIRS, runs=["a", "b"], cells=[["10", 3]], filter={"kind": "all"}, iou=0.5, effect_class="A"),
    **dict(selected=[], hovered=None),
)
ORDERS = dict(
    **dict(results={"distance": [0.4, 0.6], "score": [0.5, 0.5]}, classes=["A", "B"], effect_class="A", seed=0),
    **dict(order="distance", own_order="distance", frozen="", empty_note="", orderless=False),
)
CASES = {
    "region": ("sequence panel", SEQUENCE, "[data-slot='2']", dict(selected=[1])),
    "switch of a region": ("sequence panel", SEQUENCE, "[data-switch='1']", dict(off=[1], selected=[])),
    "slice": ("sequence volume_panel", VOLUME, "[data-place='2']", dict(place=2)),
    "switch of a slice": ("sequence volume_panel", VOLUME, "[data-switch='2']", dict(off=[2], place=0)),
    "slice in the list": ("marks answering browser", BROWSER, "[data-slice='s2']", dict(slice="s2")),
    "pair of regions": ("difference", DIFFERENCE, "[data-region='7']", dict(selected=[7])),
    "order": ("orders", ORDERS, "[data-order='score']", dict(order="score")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_press_chooses_once(browser, case):
    names, traits, row, wanted = CASES[case]
    script = "\n".join((STATIC / f"{name}.js").read_text() for name in ("common", *names.split()))
    script = script.replace("export default { render };", MODEL % json.dumps(traits))
    for how in ("drawn anew", "click", "keyboard"):
        page, wrong = browser.new_page(), []
        page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
        page.set_content(
            f"<style>{(STATIC / 'explorer.css').read_text()}</style><div id=part style='width:600px'></div>"
        )
        page.add_script_tag(content=script, type="module")
        part = page.locator(f"{row}:not(:disabled)").first
        part.wait_for(timeout=20000)
        if how == "keyboard":
            part.evaluate("part => part.click()")
        else:
            box = part.bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_timeout(150)
            page.mouse.down()
            if how == "drawn anew":
                part.evaluate("part => part.replaceWith(part.cloneNode(true))")
            page.mouse.up()
        page.wait_for_timeout(100)
        assert {name: page.evaluate(f"window.m.get('{name}')") for name in wanted} == wanted, how
        assert wrong == []
        page.close()
