"""The lesion browser in JupyterLab: sliders, selection, slices, a reload; its numbers are Python's."""

import re

from lab import Lab

SHOW = """from covid_workbench.widgets.lesion_matching import slice_outcome
from covid_workbench.widgets.lesions import LesionBrowser
browser = LesionBrowser({run!r})
browser"""
ROOT, ROWS = ".cw-lesions", ".cw-lesions .cwl-table tbody tr[data-lesion]"


def do(lab: Lab, code: str) -> None:
    lab.kernel(f"{code}\nprint(1)")


BLANK = """(table) => [...table.querySelectorAll('canvas')].filter((one) => {
  const data = one.getContext('2d').getImageData(30, 30, 20, 20).data;
  return !data.some((value, at) => at % 4 === 3 && value);
}).length"""
LOOKS = """(root) => {
  const stage = root.querySelector('.cw-image');
  const pixels = stage.getContext('2d').getImageData(0, 0, stage.width, stage.height).data;
  let sum = 0;
  for (let at = 0; at < pixels.length; at += 4) sum += pixels[at];
  return sum;
}"""


def pictured(lab: Lab) -> None:
    "The slice on the stage is the one that Python shows, and every row has its piece of it."
    lab.page.wait_for_timeout(300)
    assert lab.page.locator(ROOT).evaluate(LOOKS) == lab.value("sum(browser.pixels)"), "another slice is on the stage"
    assert lab.page.locator(f"{ROOT} .cwl-table").evaluate(BLANK) == 0, "a crop is empty"


def seen(lab: Lab) -> dict:
    "The numbers that the page shows."
    lab.page.wait_for_timeout(250)
    counts = {
        one.get_attribute("data-outcome"): int(re.findall(r"\d+", one.inner_text())[0])
        for one in lab.page.locator(f"{ROOT} .cwl-count").all()
    }
    figures = dict(
        re.findall(r"(precision|recall|mean IoU) ([\d.–]+)", lab.page.locator(f"{ROOT} .cwl-figures").inner_text())
    )
    rows = {
        one.get_attribute("data-lesion"): re.findall("matched|missed|false", one.inner_text())[0]
        for one in lab.page.locator(ROWS).all()
    }
    return {
        "counts": counts,
        "figures": figures,
        "rows": rows,
        "where": lab.page.locator(f"{ROOT} .cw-where").inner_text(),
        "sentence": lab.page.locator(f"{ROOT} .cwl-counts > div").last.inner_text(),
    }


def python(lab: Lab) -> dict:
    "The same numbers from the kernel."
    entry = "next(one for one in browser.slices if one['id'] == browser.slice)"
    told = lab.value(f"[browser.outcome, slice_outcome({entry}, browser.score, browser.iou, browser.reading)]")
    words = {"precision": "precision", "recall": "recall", "mean_iou": "mean IoU"}
    return {
        "counts": {name: told[1][name] for name in ("matched", "missed", "false")},
        "figures": {words[name]: "–" if told[0][name] is None else f"{told[0][name]:.2f}" for name in words},
    }


def same(lab: Lab) -> dict:
    page, kernel = seen(lab), python(lab)
    assert page["counts"] == kernel["counts"], (page, kernel)
    for name, value in kernel["figures"].items():  # the last digit may be rounded the other way
        assert page["figures"][name] == value or abs(float(page["figures"][name]) - float(value)) < 0.011, (
            page,
            kernel,
        )
    assert {name: list(page["rows"].values()).count(name) for name in page["counts"]} == page["counts"], page
    return page


def test_lesions_against_truth(lab: Lab, lesion_run):
    lab.open(lab.server.notebook("lesions.ipynb", SHOW.format(run=str(lesion_run)), ""))
    lab.run_all()
    page = lab.page
    page.locator(f"{ROOT} .cwl-table tbody tr").first.wait_for(timeout=240000)
    page.locator(f"{ROOT} progress").wait_for(state="detached", timeout=120000)  # the whole volume is read
    first = same(lab)

    # sliders: by keyboard, by the histogram, and for many values, always what Python says
    slider = page.locator(f"{ROOT} .cwl-range").first
    slider.focus()
    for _ in range(45):
        page.keyboard.press("ArrowLeft")
    low = same(lab)
    score = lab.value("browser.score")
    assert abs(score - 0.05) < 1e-9 and low["figures"] != first["figures"], (score, first, low)
    page.locator(f"{ROOT} .cwl-chart").evaluate("e => e.scrollIntoView({ block: 'center' })")
    page.wait_for_timeout(300)
    chart = page.locator(f"{ROOT} .cwl-chart").bounding_box()
    page.mouse.move(chart["x"] + chart["width"] * 0.8, chart["y"] + 40)
    page.mouse.down()
    page.mouse.move(chart["x"] + chart["width"] * 0.7, chart["y"] + 40, steps=5)
    page.mouse.up()
    same(lab)
    assert abs(lab.value("browser.score") - 0.7) < 0.02
    outcomes = set()
    for reading in [one[0] for one in lab.value("browser.readings")]:
        for score in (0.06, 0.15, 0.4):
            for iou in (0.1, 0.35, 0.65):
                do(lab, f"browser.score, browser.iou, browser.reading = {score}, {iou}, {reading!r}")
                outcomes.add(str(same(lab)["counts"]))
    assert len(outcomes) > 2, outcomes

    # no kernel behind a slider: it answers while the kernel is busy
    do(lab, "browser.score, browser.iou, browser.reading = 0.1, 0.3, browser.readings[0][0]")
    before = seen(lab)
    lab.start("import time; time.sleep(6)")
    slider.focus()
    page.keyboard.press("End")
    assert seen(lab)["rows"] != before["rows"]
    assert "[*]" in page.locator(".jp-InputPrompt").last.inner_text(), "the page waited for the kernel"
    lab.idle()
    same(lab)
    do(lab, "browser.score, browser.iou = 0.1, 0.3")

    # selecting: a row lights its lesion, a lesion its row, Escape clears
    lab.page.wait_for_timeout(300)
    row = page.locator(ROWS).first
    lab.press(row)
    page.wait_for_timeout(200)
    chosen = row.get_attribute("data-lesion")
    assert (
        page.locator(f"{ROOT} g[role=option][aria-selected=true]").get_attribute("data-lesion")
        == chosen
        == lab.value("browser.selected")
    )
    page.locator(f"{ROOT} .cw-stage").focus()
    page.keyboard.press("Escape")
    page.wait_for_timeout(200)
    assert page.locator(f"{ROWS}.selected").count() == 0 and lab.value("browser.selected") == ""
    page.locator(f"{ROOT} g[role=option]").last.evaluate("e => e.scrollIntoView({ block: 'center' })")
    page.wait_for_timeout(300)
    spot = page.locator(f"{ROOT} g[role=option]").last.bounding_box()
    page.mouse.click(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
    page.wait_for_timeout(200)
    assert page.locator(f"{ROWS}.selected").count() == 1 and page.locator(f"{ROWS}.selected").get_attribute(
        "data-lesion"
    ) == lab.value("browser.selected")
    page.locator(f"{ROOT} .cw-stage").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")

    # slices: by key, by the profile, by button; patients by key
    where = seen(lab)["where"]
    total = int(where.split()[-1])
    page.keyboard.press("Home")
    places = [seen(lab)["where"]]
    for key in ("ArrowRight", "]", "["):
        page.locator(f"{ROOT} .cw-stage").focus()
        page.keyboard.press(key)
        places.append(seen(lab)["where"])
        pictured(lab)
        same(lab)
    assert [int(place.split()[1]) for place in places] == [
        1,
        2,
        min(3, total),
        min(2, total - 1) if total > 2 else 1,
    ], places
    page.locator(f"{ROOT} .cwl-column").nth(total - 1).click()
    assert seen(lab)["where"] == f"slice {total} of {total}"
    assert lab.value("browser.slice == browser.slices[-1]['id']")
    page.get_by_role("button", name="the slice before, [").click()
    assert seen(lab)["where"] == f"slice {total - 1} of {total}"
    patient = lab.value("browser.volume")
    page.locator(f"{ROOT} .cw-stage").focus()
    page.keyboard.press("}")
    page.wait_for_timeout(1500)
    assert lab.value("browser.volume") != patient, "the next patient"
    page.locator(f"{ROOT} progress").wait_for(state="detached", timeout=60000)
    same(lab)
    page.get_by_label("patient").first.select_option(patient)
    page.wait_for_timeout(1000)
    assert lab.value("browser.volume") == patient

    # layers, camera, and everything again after a reload
    page.locator(f"{ROOT} .cw-stage").focus()
    for key in ("n", "z"):
        page.keyboard.press(key)
    page.locator(ROWS).first.click()
    page.wait_for_timeout(400)
    held, shown = lab.value("browser.state"), seen(lab)
    assert "names" not in held["layers"] and held["camera"]["zoom"] == 1.5 and held["selected"], held
    lab.save()
    page.reload()
    page.locator(ROWS).first.wait_for(timeout=60000)
    page.wait_for_timeout(2500)
    assert lab.value("browser.state") == held
    assert seen(lab) == shown, (seen(lab), shown)
    pictured(lab)
    assert page.locator(f"{ROWS}.selected").count() == 1 and page.locator(f"{ROOT} .cw-image").is_visible()
