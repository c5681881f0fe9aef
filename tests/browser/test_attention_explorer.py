"""The attention explorer in JupyterLab, as a reader uses it. Needs Chromium and playwright: make test-browser."""

import json

from lab import Lab

OPEN = "from covid_workbench.widgets.explorer import AttentionExplorer\n"


def opened(lab: Lab, *cells: str):
    "A notebook with the explorer on the screen; returns its page."
    lab.open(lab.server.notebook("x.ipynb", OPEN + cells[0], *cells[1:], "ex", "None"))
    lab.run_all()
    lab.page.locator(".cw-row[data-slot='1']").first.wait_for(timeout=90000)
    lab.idle()
    return lab.page


def shown(page) -> dict[str, str]:
    "Class -> probability as the page shows it."
    return {
        row.get_attribute("data-class"): row.locator(".cw-probability").inner_text()
        for row in page.locator(".cw-class[data-class]").all()
    }


def answered(lab: Lab, question: str) -> dict[str, str]:
    "The same as Python computes it for a `Question(...)` on the open slice."
    asked = (
        "import json; from covid_workbench.evaluation.whatif import *; "
        f"p = answer(ex.panes[0].read, {question}).probabilities[0].tolist(); "
        "print(json.dumps(dict(zip(ex.panes[0].classes, [f'{v:.3f}' for v in p]))))"
    )
    return json.loads(lab.kernel(asked))


def test_a_reader_looks_and_asks(lab, runs):
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')")
    before = shown(page)
    assert before == answered(lab, "Question()")

    # select on the canvas, the row lights up, without the kernel
    box = page.locator(".cw-hit").last
    region = box.get_attribute("data-region")
    box.click()
    row = page.locator(f".cw-row.selected[data-region='{region}']").first
    row.wait_for(timeout=2000)
    assert page.locator(f".cw-hit[data-region='{region}'][aria-selected='true']").count() == 1

    # switch it off: the verdict is what Python computes for the same change
    lab.press(row.locator(".cw-switch"))
    page.locator(".cw-said", has_text="→").wait_for(timeout=10000)
    lab.idle()
    assert shown(page) == answered(lab, f"Question(off=({region},))") != before

    # undo and redo by keys; the notebook's own undo stays out of it
    changed = shown(page)
    lab.attend(".cw-rows")
    page.keyboard.press("Control+z")
    page.locator(".cw-strong").wait_for(state="detached", timeout=5000)
    assert shown(page) == before
    page.keyboard.press("Control+Shift+z")
    page.locator(".cw-said", has_text="→").wait_for(timeout=5000)
    lab.idle()
    assert shown(page) == changed

    # another order, by button and by keys
    page.locator("button[data-order='reversed'][role='radio']").click()
    page.locator("button[data-order='reversed'][aria-checked='true']").wait_for(timeout=5000)
    lab.idle()
    assert shown(page) == answered(lab, f"Question('reversed', off=({region},))")
    lab.attend(".cw-rows")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator(".cw-strong").wait_for(state="detached", timeout=5000)
    assert shown(page) == before
    page.keyboard.press("o")
    page.keyboard.press("c")
    page.locator("button[data-order='score'][aria-checked='true']").wait_for(timeout=5000)
    page.wait_for_timeout(1000)  # the rows of the new order
    page.keyboard.press("ArrowDown")
    page.locator(".cw-row.selected[data-slot='1']").wait_for(timeout=2000)
    page.keyboard.press(" ")
    page.locator(".cw-switch[aria-checked='false']").wait_for(timeout=5000)
    lab.idle()
    held, view = shown(page), lab.value("ex.state")
    assert view["questions"][0]["order"] == "score" and len(view["questions"][0]["off"]) == 1

    # after a reload of the page everything is as it was
    lab.save()
    page.reload()
    page.locator(".cw-row[data-slot='1']").first.wait_for(timeout=60000)
    page.locator(".cw-switch[aria-checked='false']").wait_for(timeout=20000)
    page.locator("button[data-order='score'][aria-checked='true']").wait_for(timeout=20000)
    page.locator(".cw-class[data-class] .cw-probability").first.wait_for(timeout=20000)
    assert shown(page) == held and page.locator("button[data-order='score'][aria-checked='true']").count() == 1
    assert lab.value("ex.state") == view


def test_selecting_needs_no_kernel(lab, runs):
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')")
    lab.start("import time; time.sleep(8)")
    lab.press(page.locator(".cw-row[data-slot='2']"))
    region = page.locator(".cw-row[data-slot='2']").get_attribute("data-region")
    page.locator(f".cw-hit[data-region='{region}'][aria-selected='true']").wait_for(timeout=1500)
    page.locator(".cw-inspector b", has_text="RoI 2").wait_for(timeout=1500)
    assert "[*]" in page.locator(".jp-InputPrompt").last.inner_text()  # all of it while the kernel slept
    lab.idle()


def test_slices_layers_and_saving(lab, runs, tmp_path):
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')")
    where = page.locator(".cw-where").inner_text()
    lab.attend(".cw-stage")
    page.keyboard.press("]")
    page.locator(f".cw-where:not(:text-is('{where}'))").wait_for(timeout=10000)
    lab.idle()
    assert lab.value("ex.browser.slice") == page.locator(".cw-slice.now").get_attribute("data-slice")
    lab.attend(".cw-stage")
    page.keyboard.press("b")  # not "insert a cell above" of the notebook
    page.locator("button[data-layer='boxes'][aria-pressed='false']").wait_for(timeout=15000)
    assert page.locator(".jp-Notebook .jp-Cell").count() == 3
    page.locator("[data-kind='wrong']").click()
    page.wait_for_timeout(300)
    assert page.locator(".cw-slice:not(.wrong)").count() == 0
    page.locator("[data-kind='all']").click()
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("html", b"<!doctype html")):
        with page.expect_download(timeout=20000) as download:
            page.locator("[data-key='save']").select_option(kind)
        path = tmp_path / f"view.{kind}"
        download.value.save_as(path)
        assert path.read_bytes().startswith(start) and path.stat().st_size > 5000

    # the saved page works alone
    saved = lab.context.new_page()
    wrong = []
    saved.on("pageerror", lambda error: wrong.append(str(error)))
    saved.goto(f"file://{tmp_path / 'view.html'}")
    saved.locator(".cw-row[data-slot='1']").wait_for(timeout=10000)
    saved.locator(".cw-row[data-slot='1']").click()
    saved.locator(".cw-hit[aria-selected='true']").wait_for(timeout=15000)
    assert "order and β need the running notebook" in str(saved.locator(".cw-note").all_inner_texts())
    saved.locator(".cw-switch").first.click()  # answered by what the page holds
    saved.locator("[data-switch][aria-checked='false']").wait_for(timeout=15000)
    assert wrong == []


def test_a_link_opens_the_same_view(lab, runs):
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')")
    page.locator(".cw-switch").first.click()
    page.locator(".cw-said", has_text="→").wait_for(timeout=10000)
    lab.idle()
    held, view = shown(page), lab.value("ex.state")
    page.locator("button[data-key='link']").click()
    page.locator(".cw-message", has_text="copied").wait_for(timeout=5000)
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    page.locator(".jp-Notebook").first.wait_for(timeout=60000)
    lab.idle()
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel and Run All Cells…", exact=True).first.click()
    page.locator(".jp-Dialog button", has_text="Restart").click()
    page.locator(".cw-said", has_text="→").wait_for(timeout=90000)
    lab.idle()
    assert shown(page) == held and lab.value("ex.state") == view


def test_runs_side_by_side(lab, runs):
    page = opened(lab, f"ex = AttentionExplorer(['{runs}/lstm2', '{runs}/attention'])")
    page.locator(".cw-pair[data-region]").first.wait_for(timeout=30000)
    pair = page.locator(".cw-pair[data-region]").first
    region = pair.get_attribute("data-region")
    lab.press(pair)
    page.locator(f".cw-row.selected[data-region='{region}']").first.wait_for(timeout=15000)
    assert page.locator(".cw-pane").count() == 2
    assert sum(lab.value("[number for _, number in ex.difference.cells]")) == lab.value(
        "sum(row['label'] != '' for row in ex.browser.slices)"
    )


def test_a_run_without_regions(lab, runs):
    lab.open(lab.server.notebook("x.ipynb", OPEN + f"ex = AttentionExplorer('{runs}/classifier')", "ex", "None"))
    lab.run_all()
    lab.page.locator(".cw-empty", has_text="decides without regions").wait_for(timeout=60000)
    lab.idle()
    assert (
        lab.page.locator(".cw-probability").count() == 3
        and "Traceback" not in lab.page.locator(".jp-Notebook").inner_text()
    )


def test_a_missing_run_is_one_sentence(lab, tmp_path):
    lab.open(lab.server.notebook("x.ipynb", OPEN + "AttentionExplorer('nowhere')"))
    lab.run_all()
    lab.page.locator(".jp-RenderedText", has_text="nowhere is not a run").wait_for(timeout=60000)
    assert "Traceback" not in lab.page.locator(".jp-Notebook").inner_text()
    lab.trouble.clear()


def test_without_a_kernel_looking_goes_on(lab, runs):
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')")
    where = page.locator(".cw-where").inner_text()
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel…", exact=True).first.click()
    page.locator(".jp-Dialog button", has_text="Restart").click()
    page.locator(".cw-message", has_text="No kernel answers").wait_for(timeout=20000)
    page.locator(".cw-row[data-slot='2']").click()
    page.locator(".cw-row.selected[data-slot='2']").wait_for(timeout=2000)
    assert page.locator(".cw-switch").first.is_disabled()
    page.locator(".cw-slice:not(.now)").first.click()
    page.wait_for_timeout(500)
    assert page.locator(".cw-where").inner_text() == where and page.locator(".cw-slice.now").count() == 1
