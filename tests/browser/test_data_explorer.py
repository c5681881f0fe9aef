"""The data explorer in JupyterLab: all cells run, a click on a finding shows its slices; and windows act on HU."""

from lab import ROOT, Lab
from playwright.sync_api import expect

DATA = ".cw-data"
SUM = """(root) => {
  const stage = root.querySelector('.cw-image');
  const pixels = stage.getContext('2d').getImageData(0, 0, stage.width, stage.height).data;
  let sum = 0;
  for (let at = 0; at < pixels.length; at += 4) sum += pixels[at];
  return sum;
}"""


def test_a_finding_is_clicked_through(lab: Lab):
    page = lab.page
    lab.open(lab.server.copy(ROOT / "nbs/explore/data.ipynb"))
    lab.run_all()
    page.locator(f"{DATA} .cwd-tile").first.wait_for(timeout=120000)
    lab.idle()
    assert page.locator(f"{DATA} .cwd-figure").count() == 4
    total = lab.value("explorer.total")
    expect(page.locator(f"{DATA} [data-total]")).to_have_attribute("data-total", str(total))
    assert page.locator(f"{DATA} .cwd-tile").count() == lab.value("len(explorer.tiles)") == 24

    # a finding with slices: its tiles, the first one open
    pairs = lab.value("[one['key'] for one in explorer.findings if one['slices'] > 1 and one['level'] == 'error']")
    row = page.locator(f'{DATA} [data-finding="{pairs[0]}"]')
    lab.press(row)
    expect(row).to_have_attribute("aria-selected", "true")
    expect(page.locator(f"{DATA} .cwd-banner")).to_be_visible()
    shown = lab.value("[entry['id'] for entry in explorer.tiles]")
    expect(page.locator(f"{DATA} .cwd-tile")).to_have_count(len(shown))
    assert [one.get_attribute("data-slice") for one in page.locator(f"{DATA} .cwd-tile").all()] == shown
    expect(page.locator(f"{DATA} .cwd-tile[aria-pressed=true]")).to_have_attribute("data-slice", shown[0])
    expect(page.locator(f"{DATA} .cwd-chosen")).to_have_text(shown[0])
    page.wait_for_timeout(400)
    assert page.locator(f"{DATA} .cwd-big").evaluate(SUM) == lab.value("sum(explorer.pixels)")
    assert "patient" in page.locator(f"{DATA} .cwd-about").inner_text()

    # twins stand together; the other one by key
    assert page.locator(f"{DATA} .cwd-group.together .cwd-tile").count() >= 2
    page.locator(f"{DATA} .cwd-tile").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"{DATA} .cwd-chosen")).to_have_text(shown[1])
    page.keyboard.press("m")
    expect(page.locator(f"{DATA} .cwd-sheet")).to_have_class("cwd-sheet plain")
    assert page.locator(f"{DATA} .cw-layer path").count() == 0

    # the view is there again after a reload, and Esc leaves the finding
    held = lab.value("explorer.state")
    lab.save()
    page.reload()
    expect(page.locator(f"{DATA} .cwd-tile")).to_have_count(len(shown), timeout=60000)
    expect(page.locator(f"{DATA} .cwd-chosen")).to_have_text(shown[1])
    page.wait_for_timeout(1500)
    assert lab.value("explorer.state") == held
    page.locator(f"{DATA} .cwd-tile").first.focus()
    page.keyboard.press("Escape")
    expect(page.locator(f"{DATA} [data-total]")).to_have_attribute("data-total", str(total), timeout=10000)

    # numbers and chips filter
    lab.press(page.locator(f"{DATA} .cwd-counts tbody tr").nth(2).locator(".cwd-cell").first)
    page.wait_for_timeout(800)
    picked = lab.value("[explorer.filters, explorer.total]")
    assert picked[0] == {"label": ["COVID-19"], "split": ["train"]} and 0 < picked[1] < total
    expect(page.locator(f"{DATA} .cwd-tile")).to_have_count(min(24, picked[1]))
    assert page.locator(f"{DATA} .cwd-chip[aria-pressed=true]").count() == 2


def test_what_cannot_be_opened_is_said(lab: Lab):
    shown = "from covid_workbench.widgets.data import DataExplorer\nDataExplorer('no/such/folder')"
    lab.open(lab.server.notebook("trouble.ipynb", shown))
    lab.run_all()
    expect(lab.page.locator(f"{DATA} .cwd-trouble")).to_contain_text("no such data folder", timeout=60000)


CANVAS = """import numpy as np
from covid_workbench.data.slices import Slice
from covid_workbench.data.windows import WINDOWS, apply_window
from covid_workbench.widgets.content import hu_traits
from covid_workbench.widgets.parts import SliceCanvas
hu = np.arange(-32768, 32768).astype(np.int16).reshape(256, 256)
image = Slice("all", "patient", "1", 1, apply_window(hu), hu=hu)
canvas = SliceCanvas(pixels=image.pixels.tobytes(), shape=[256, 256], **hu_traits(image))
canvas"""
DRAWN = """(stage) => {
  const pixels = stage.getContext('2d').getImageData(0, 0, stage.width, stage.height).data;
  return [...pixels].filter((_, at) => at % 4 === 0);
}"""
EXPECTED = "apply_window(hu, tuple(canvas.hu_window) or WINDOWS['lung']).ravel().tolist()"


def test_a_window_acts_on_hu_as_in_python(lab: Lab):
    "Every HU there is: the page draws what `data.windows.apply_window` gives, to the last grey value."
    page = lab.page
    lab.open(lab.server.notebook("hu.ipynb", CANVAS, ""))
    lab.run_all()
    stage, choose = page.locator(".cw-image"), page.get_by_label("window", exact=True)
    stage.wait_for(timeout=60000)

    def same() -> None:
        page.wait_for_timeout(300)
        wanted, drawn = lab.value(EXPECTED), stage.evaluate(DRAWN)
        assert drawn == wanted, next(
            (at - 32768, *two) for at, two in enumerate(zip(drawn, wanted)) if two[0] != two[1]
        )

    same()
    expect(choose).to_have_value("as the model sees it")
    for name, ends in lab.value("WINDOWS").items():
        choose.select_option(name)
        page.wait_for_timeout(200)
        assert lab.value("canvas.hu_window") == ends
        same()
    expect(page.locator(".cw-hu")).to_contain_text("the model sees -1350 to 150")
    low, high = (page.get_by_label(f"{end} end of the window in HU") for end in ("low", "high"))
    low.fill("-163")
    low.press("Enter")
    high.fill("241")
    high.press("Enter")
    same()
    assert lab.value("canvas.hu_window") == [-163, 241]
    expect(choose).to_have_value("")

    # drag: across is width, up is level; the value under the pointer is in HU
    page.locator(".cw-stage").scroll_into_view_if_needed()  # printing below has scrolled it away
    page.wait_for_timeout(300)
    box = page.locator(".cw-stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    expect(page.locator(".cw-readout")).to_contain_text("HU")
    place = [
        int(part)
        for part in page.locator(".cw-readout").inner_text().replace("−", "-").split()
        if part.lstrip("-").isdigit()
    ]
    assert place[2] == 256 * place[1] + place[0] - 32768
    page.mouse.down(button="right")
    page.mouse.move(x + 60, y - 40, steps=4)
    page.mouse.up(button="right")
    page.wait_for_timeout(300)
    dragged = lab.value("canvas.hu_window")
    assert dragged[1] - dragged[0] > 404 and sum(dragged) > 78 and all(float(end).is_integer() for end in dragged)
    same()
    page.locator(".cw-stage").focus()
    page.keyboard.press("Alt+0")
    page.wait_for_timeout(300)
    assert lab.value("canvas.hu_window") == []
    same()
