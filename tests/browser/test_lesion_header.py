"""The lesion browser's header in JupyterLab: undo by key, a link, a download; and the page that it saves, without a
kernel."""

import json
import subprocess

import pytest
from lab import ROOT as CHECKOUT
from lab import Lab, expect

SHOW = """from covid_workbench.widgets.lesions import LesionBrowser
browser = LesionBrowser({run!r})
browser"""
ROOT = ".cw-lesions"
COUNTS = f"{ROOT} .cwl-count"


def test_undo_link_and_save(lab: Lab, lesion_run, tmp_path):
    lab.open(lab.server.notebook("lesions.ipynb", SHOW.format(run=str(lesion_run)), ""))
    lab.run_all()
    page, undo = lab.page, lab.page.locator(f"{ROOT} [data-key=undo]")
    page.locator(f"{ROOT} .cwl-table tbody tr").first.wait_for(timeout=240000)
    page.locator(f"{ROOT} progress").wait_for(state="detached", timeout=120000)
    expect(undo).to_be_disabled(timeout=30000)
    layer = page.locator(f"{ROOT} [data-layer=truth]")
    layer.click()
    expect(layer).to_have_attribute("aria-pressed", "false")
    expect(undo).to_be_enabled(timeout=30000)
    lab.attend(f"{ROOT} .cw-stage")
    page.keyboard.press("Control+z")
    expect(layer).to_have_attribute("aria-pressed", "true", timeout=30000)
    page.keyboard.press("Control+Shift+z")
    expect(layer).to_have_attribute("aria-pressed", "false", timeout=30000)
    lab.attend(f"{ROOT} .cw-stage")
    page.keyboard.press("?")
    expect(page.locator(f"{ROOT} .cw-help")).to_contain_text("predictions, truth, names, lungs", timeout=30000)
    lab.attend(f"{ROOT} .cw-stage")
    page.keyboard.press("Escape")
    expect(page.locator(f"{ROOT} .cw-help")).to_be_hidden(timeout=30000)

    page.locator(f"{ROOT} [data-key=link]").click()
    expect(page.locator(f"{ROOT} .cw-message")).to_contain_text("link is copied", timeout=30000)
    link = page.evaluate("navigator.clipboard.readText()")
    held = lab.value("browser.state")
    assert json.loads(page.evaluate("decodeURIComponent", link.split("#cw=")[1])) == held

    page.locator(f"{ROOT} [data-key=reset]").click()
    expect(layer).to_have_attribute("aria-pressed", "true", timeout=30000)
    for kind in ("png", "html"):
        with page.expect_download(timeout=60000) as made:
            page.locator(f"{ROOT} [data-key=save]").select_option(kind)
        made.value.save_as(tmp_path / f"view.{kind}")
    assert (tmp_path / "view.png").read_bytes()[1:4] == b"PNG"
    assert (tmp_path / "view.html").read_text().startswith("<!doctype html>")


@pytest.fixture(scope="module")
def saved(lesion_run, tmp_path_factory):
    "A page, and what Python counts at other scores and IoUs: {score: {iou: {slice: outcome}}}."
    path = tmp_path_factory.mktemp("saved") / "page.html"
    code = f"""
import json
from covid_workbench.widgets.lesion_matching import slice_outcome
from covid_workbench.widgets.lesions import LesionBrowser
browser = LesionBrowser({str(lesion_run)!r})
browser.save({str(path)!r})
outcomes = [[slice_outcome(one, 0.1, 0.5, browser.reading) for one in browser.slices], browser.slice]
print(json.dumps([[one["id"] for one in browser.slices], *outcomes]))
"""
    run = [str(CHECKOUT / ".venv/bin/python"), "-c", code]
    return path, json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


@pytest.mark.parametrize("width", [900, 1280])
def test_a_saved_page_counts_by_itself(browser, saved, width):
    path, (ids, outcomes, begun) = saved
    page, wrong, outside = browser.new_page(viewport={"width": width, "height": 1000}), [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: outside.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    page.locator(f"{ROOT} .cwl-table tbody tr").first.wait_for(timeout=60000)
    score = page.locator(f"{ROOT} .cwl-range").first
    score.focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    place = ids.index(begun)
    for step, key in ((0, None), (1, "]"), (0, "[")):
        if key:
            page.locator(f"{ROOT} .cw-stage").focus()
            page.keyboard.press(key)
        at = min(len(ids) - 1, place + step)
        expect(page.locator(f"{ROOT} .cw-where")).to_have_text(f"slice {at + 1} of {len(ids)}", timeout=20000)
        expect(page.locator(f"{ROOT} .cwl-cover")).to_be_hidden(timeout=20000)  # its picture is there
        for name in ("matched", "missed", "false"):
            count = page.locator(f"{COUNTS}[data-outcome={name}]")
            expect(count).to_contain_text(f" {outcomes[at][name]} ", timeout=20000)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert (wrong, outside) == ([], [])
    page.close()
