"""Explorers where the browser is slow: anywidget gives up on a part whose module takes more than two seconds."""

from lab import Lab, expect
from test_attention_explorer import OPEN, answered, shown

# what a slow browser does now and then, every time
GIVE_UP = """
const after = AbortSignal.timeout;
AbortSignal.timeout = (milliseconds) => after(milliseconds === 2000 ? 0 : milliseconds);
"""
PARTS = {  # what each part of the attention explorer shows once it has heard of the slice
    "header": ".cw-where:not(:empty)",
    "slices": ".cw-slice.now",
    "canvas": ".cw-hit",
    "rows": ".cw-row[data-slot='1']",
    "effects": ".cw-row[data-slot='1'] .cw-cell:last-child b:not(:empty)",
    "verdict": ".cw-class[data-class] .cw-probability",
    "inspector": ".cw-inspector img",
    "agreement": ".cw-plot",
    "orders": ".cw-order .cw-dot",
}


def opened(lab: Lab, code: str, timeout: int):
    "The explorer of `code` with every part filled; returns its page."
    lab.open(lab.server.notebook("x.ipynb", OPEN + code, "ex", "None"))
    return filled(lab, timeout)


def filled(lab: Lab, timeout: int):
    lab.run_all()
    for selector in PARTS.values():
        lab.page.locator(selector).first.wait_for(timeout=timeout, state="attached")
    lab.idle()
    return lab.page


def asked(lab: Lab, page, timeout: int) -> None:
    "A what-if is answered as Python answers it, and every part goes on."
    row = page.locator(".cw-row[data-slot='2']").first
    region = row.get_attribute("data-region")
    row.locator(".cw-switch").click(timeout=timeout)
    page.locator(".cw-said", has_text="→").wait_for(timeout=timeout)
    page.locator(".cw-order .cw-dot").first.wait_for(timeout=timeout)
    lab.idle()
    assert shown(page) == answered(lab, f"Question(off=({region},))")
    expect(page.locator(".cw-message", has_text="No kernel")).to_have_count(0)


def test_parts_that_anywidget_gave_up_are_filled_and_answer(lab, runs):
    lab.page.add_init_script(GIVE_UP)
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')", 60000)
    asked(lab, page, 30000)


def test_no_part_is_blank_in_a_browser_six_times_as_slow(lab, runs):
    lab.open(lab.server.notebook("x.ipynb", OPEN + f"ex = AttentionExplorer('{runs}/lstm2')", "ex", "None"))
    lab.context.new_cdp_session(lab.page).send("Emulation.setCPUThrottlingRate", {"rate": 6})
    page = filled(lab, 120000)
    asked(lab, page, 60000)


def test_a_busy_kernel_is_called_busy_and_no_slice_is_named_before_it_is_there(lab, runs):
    # as with kernels that cannot answer beside a running cell
    settings = lab.server.folder.parent / "settings/@jupyterlab/apputils-extension/kernels-settings.jupyterlab-settings"
    settings.write_text('{"commsOverSubshells": "disabled"}')
    page, done = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2')", 90000), lab.server.folder / "done"
    where = page.locator(".cw-where").first.inner_text()
    busy = f"import pathlib, time\ndisplay(ex)\nwhile not pathlib.Path({str(done)!r}).exists(): time.sleep(0.1)"
    lab.start(busy)  # a second view, which nobody answers until the file is there
    expect(page.locator(".cw-message", has_text="The kernel is busy").first).to_be_visible(timeout=60000)
    page.locator(".cw-explorer").first.locator(".cw-slice:not(.now)").first.click()
    page.locator(".cw-explorer[data-opening][aria-busy='true']").first.wait_for(timeout=20000)
    assert page.locator(".cw-where").first.inner_text() == where
    page.wait_for_timeout(4000)  # what used to be called a kernel that does not answer
    expect(page.locator(".cw-message", has_text="No kernel")).to_have_count(0)
    done.write_text("")
    lab.idle()
    expect(page.locator("[data-opening]")).to_have_count(0, timeout=30000)
    expect(page.locator(".cw-message", has_text="busy")).to_have_count(0, timeout=30000)
    assert page.locator(".cw-where").first.inner_text() != where
    assert lab.value("ex.browser.slice") == page.locator(".cw-slice.now").first.get_attribute("data-slice")


def test_charts_and_tables_that_anywidget_gave_up_are_filled(lab, runs):
    lab.page.add_init_script(GIVE_UP)
    code = f"from covid_workbench.widgets.runs import RunExplorer\nex = RunExplorer('{runs}')"
    lab.open(lab.server.notebook("x.ipynb", code, "ex", "None"))
    lab.run_all()
    page = lab.page
    expect(page.locator(".cwr-table tbody tr")).to_have_count(3, timeout=90000)
    expect(page.locator(".cw-chart .scatterlayer .trace").first).to_be_attached(timeout=60000)
    expect(page.locator(".cw-chart .modebar-btn--logo")).to_have_count(0)  # its settings came with it
    lab.press(page.locator(".cwr-table tbody tr").first)
    expect(page.locator(".cwr-part-card h3")).to_be_visible(timeout=30000)
