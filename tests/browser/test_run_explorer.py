"""The run explorer in JupyterLab: filter, open a run from a point, its slices from a confusion cell, reload, watch."""

import subprocess
import time

from lab import ROOT, Lab
from playwright.sync_api import expect

DRAWN = """() => document.querySelector('.js-plotly-plot').data.map((one) => {
  const last = Number(one.y[one.y.length - 1]).toFixed(4);
  return [one.name, one.meta, one.x.length, last, one.line.width];
})"""
PLACE = """([line]) => {
  const plot = document.querySelector('.js-plotly-plot'), box = plot.getBoundingClientRect();
  const layout = plot._fullLayout, trace = plot._fullData[line], at = trace.x.length - 1;
  const x = layout._size.l + layout.xaxis.l2p(trace.x[at]), y = layout._size.t + layout.yaxis.l2p(trace.y[at]);
  return [box.left + x, box.top + y];
}"""
LAST = "() => document.querySelector('.js-plotly-plot').data[0].x.at(-1)"
GROW = """
import shutil, sys, time
from pathlib import Path
from covid_workbench.locks import exclusive
source, run = Path(sys.argv[1]), Path(sys.argv[2])
run.mkdir(parents=True)
for name in ("slices.csv", "experiment.json"):
    shutil.copy(source / name, run)
head, row = (source / "history.csv").read_text().splitlines(keepends=True)[:2]
column = head.split(",").index("step")
with exclusive(run / ".lock"):
    for end in range(20, 400, 3):
        rows = [",".join([*row.split(",")[:column], str(step), *row.split(",")[column + 1:]]) for step in range(1, end)]
        (run / "history.csv").write_text(head + "".join(rows) + row[:15])  # the last line is half written
        time.sleep(0.4)
        if (run / "stop").exists():
            break
    shutil.copy(source / "weights.safetensors", run)
"""


def view(page) -> dict:
    "What the page shows: the lines really drawn, the choices, the rows, the card."

    def text(selector: str) -> list[str]:
        return [one.strip() for one in page.locator(selector).all_text_contents()]

    return {
        "lines": page.evaluate(DRAWN),
        "title": text(".cw-chart .ytitle"),
        "choices": [one.input_value() for one in page.locator(".cwr-pick select").all()],
        "pressed": page.locator(".cwr-chip[aria-pressed=true]").all_inner_texts(),
        "rows": text(".cwr-table tbody tr"),
        "selected": page.locator(".cwr-table tr[aria-selected=true]").count(),
        "card": text(".cwr-part-card h3"),
        "cell": page.locator(".cwr-cell[aria-pressed=true]").all_inner_texts(),
        "slices": text(".cwr-slices h4"),
        "decision": [one.input_value() for one in page.locator(".cwr-slider input").all()],
    }


def test_from_curves_to_slices(lab: Lab, runs):
    page = lab.page
    lab.open(lab.server.copy(ROOT / "nbs/explore/runs.ipynb", folder=str(runs)))
    lab.run_all()
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(timeout=90000)
    page.locator(".cwr-table tbody tr").first.wait_for()
    page.wait_for_timeout(1500)
    first = view(page)
    assert len(first["rows"]) >= 3 and 2 <= len(first["lines"]) <= len(first["rows"])
    assert "Share" not in str(
        [one.get_attribute("data-title") for one in page.locator(".modebar-btn").all()]
    )  # plotly's button that uploads the figure
    chip = page.locator('.cwr-chip[data-key="model=lstm2"]')
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    chip.focus()
    page.keyboard.press("b")  # not "insert a cell below" of the notebook
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    chip.focus()
    page.keyboard.press("Enter")
    expect(chip).to_have_attribute("aria-pressed", "true", timeout=10000)
    page.wait_for_timeout(600)
    filtered = view(page)
    assert 0 < len(filtered["rows"]) < len(first["rows"]) and all("lstm2" in row for row in filtered["rows"])
    page.locator(".cwr-part-bar").evaluate("e => e.scrollIntoView()")
    page.wait_for_timeout(300)
    x, y = page.evaluate(PLACE, [0])
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y, steps=4)
    page.wait_for_timeout(300)
    page.mouse.click(x, y)
    expect(page.locator(".cwr-part-card h3")).to_be_visible(timeout=10000)
    lab.press(page.locator(".cwr-cell:not(.right):not(:disabled)").first)
    expect(page.locator(".cwr-slices h4")).to_be_visible(timeout=10000)
    expect(page.locator(".cwr-part-card [role=status]")).to_have_text("opened below", timeout=60000)
    page.locator(".cw-explorer .cw-row[data-slot='1']").wait_for(timeout=30000)
    page.wait_for_timeout(1500)
    threshold = page.locator(".cwr-slider input[data-key=decision-threshold]")
    threshold.focus()
    page.keyboard.press("Home")  # everybody is called ill
    expect(page.locator(".cwr-decided dd").first).to_contain_text("100.0 %")
    expect(threshold).to_be_focused()
    page.wait_for_timeout(600)
    before = view(page)
    assert before["decision"][0] == "0"
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    page.reload()
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(timeout=90000)
    page.locator(".cwr-cell[aria-pressed=true]").wait_for(timeout=30000)
    page.wait_for_timeout(2000)
    assert view(page) == before
    page.locator(".cwr-clear").click()
    expect(page.locator(".cwr-table tbody tr")).to_have_count(len(first["rows"]), timeout=10000)
    other = page.locator(".cwr-table tbody tr[aria-selected=false]").first
    run = other.get_attribute("data-run")
    lab.press(other)
    expect(page.locator(f".cwr-table tr[data-run='{run}']")).to_have_attribute("aria-selected", "true", timeout=10000)


def test_training_is_watched(lab: Lab, runs, tmp_path):
    page, live = lab.page, tmp_path / "live"
    grower = subprocess.Popen(
        [str(ROOT / ".venv/bin/python"), "-c", GROW, str(runs / "attention"), str(live / "growing")]
    )
    try:
        while not (live / "growing/history.csv").exists():
            assert grower.poll() is None
            time.sleep(0.2)
        lab.open(
            lab.server.notebook(
                "live.ipynb",
                f"from covid_workbench.widgets.runs import RunExplorer\nRunExplorer({str(live)!r}, every=0.4)",
            )
        )
        lab.run_all()
        page.locator(".js-plotly-plot").first.wait_for(timeout=60000)
        switch = page.locator(".cwr-toggle[data-key=live]")
        expect(switch).to_have_attribute("aria-checked", "true", timeout=20000)
        options = [one.get_attribute("value") for one in page.locator(".cwr-pick select[data-key=y] option").all()]
        page.locator(".cwr-pick select[data-key=y]").select_option(
            next(one for one in options if one.startswith("loss"))
        )
        page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(state="attached", timeout=20000)
        first = page.evaluate(LAST)
        page.wait_for_function(f"(first) => ({LAST})() > first + 8", arg=first, timeout=20000)
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "false")
        page.wait_for_timeout(1000)
        still = page.evaluate(LAST)
        page.wait_for_timeout(2000)
        assert page.evaluate(LAST) == still
        switch.click()
        page.wait_for_function(f"(still) => ({LAST})() > still", arg=still, timeout=20000)
        (live / "growing/stop").touch()
        expect(page.locator(".cwr-line .cwr-soft").first).to_have_text("all runs have ended", timeout=30000)
    finally:
        (live / "growing/stop").touch()
        grower.wait(60)
