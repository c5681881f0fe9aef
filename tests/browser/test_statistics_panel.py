"""The statistics below the slice: in JupyterLab with a kernel, and on a saved page without one."""

import subprocess

import pytest
from lab import ROOT, Lab
from playwright.sync_api import expect

OPEN = "from covid_workbench.widgets.explorer import AttentionExplorer\n"
MAKE = """
import sys
from covid_workbench.evaluation.explanation import explain_run, explained_of
from covid_workbench.runs.run import Run
from covid_workbench.widgets.answering_page import write_page

runs = [Run.open(f"{sys.argv[1]}/{name}") for name in ("lstm2", "attention")]
for run in runs:
    explain_run(run, slices=6, repeats=20, progress=False)
rows = explained_of(runs[0]).rows
ids = list(rows["id"][rows["rho_leave_one_out_dropped"].notna()])
write_page(runs[0], sys.argv[2] + "/page.html", ids=ids[:2], progress=False)
print(*ids)
"""


@pytest.fixture(scope="module")
def told(runs, tmp_path_factory):
    "Two explained runs, a page of two of their slices, and the ids of the slices that have a rho."
    folder = tmp_path_factory.mktemp("told")
    words = [str(ROOT / ".venv/bin/python"), "-c", MAKE, str(runs), str(folder)]
    made = subprocess.run(words, check=True, cwd=ROOT, capture_output=True, text=True)
    return folder / "page.html", made.stdout.split()


def test_bars_filter_and_dots_open(lab: Lab, runs, told):
    lab.open(
        lab.server.notebook(
            "x.ipynb", OPEN + f"ex = AttentionExplorer(['{runs}/lstm2', '{runs}/attention'])", "ex", "0"
        )
    )
    lab.run_all()
    page, panel = lab.page, lab.page.locator(".cws-statistics")
    panel.locator("[data-choice='by']:enabled").wait_for(timeout=120000)
    lab.idle()
    panel.locator("[data-choice='by']").select_option("all")
    strips = panel.locator(".cws-strip[data-group='all']")
    expect(strips).to_have_count(2, timeout=60000)

    # a bar filters the list of slices, by keyboard, too; the list brings all of them back
    bar = strips.first.locator(".cws-column").first
    dots = bar.locator(".cws-dot").count()
    bar.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".cw-count")).to_contain_text(f"{dots} of", timeout=30000)
    expect(page.locator(".cws-column.chosen")).to_have_count(1)
    page.locator("[data-unpick]").click()
    expect(page.locator(".cws-column.chosen")).to_have_count(0, timeout=30000)

    # a dot opens its slice, a pattern of runs filters
    dot = strips.last.locator(".cws-dot").last
    wanted = dot.get_attribute("data-slice")
    dot.click()
    expect(page.locator(f".cws-dot.now[data-slice='{wanted}']").first).to_be_visible(timeout=30000)
    pattern = panel.locator("[data-pattern]").first
    count = pattern.locator("b").inner_text()
    pattern.click()
    expect(page.locator(".cw-count")).to_contain_text(count, timeout=30000)
    lab.idle()
    assert lab.value("ex.browser.slice") == wanted
    assert lab.value("len(ex.browser.picked)") == int(count)
    assert lab.value("ex.state['statistics']['choice']['by']") == "all"


def test_a_saved_page_shows_them_without_a_kernel(browser, told):
    path, ids = told
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page, trouble = context.new_page(), []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(path.as_uri())
    panel = page.locator(".cws-statistics")
    expect(panel.locator(".cws-strip[data-group='right']")).to_have_count(1, timeout=30000)
    assert (
        panel.locator(".cws-columns .cws-dot").count() == len(ids)
        and panel.locator("[data-choice]:enabled").count() == 0
    )
    assert "6 of" in panel.locator(".cws-sample").inner_text()
    other = panel.locator(f".cws-dot[data-slice='{ids[1]}']").first
    other.click()
    expect(page.locator(f"[data-open='{ids[1]}'][aria-pressed='true']")).to_have_count(1, timeout=30000)
    assert panel.evaluate("part => part.scrollWidth <= part.clientWidth")
    assert trouble == []
    context.close()
