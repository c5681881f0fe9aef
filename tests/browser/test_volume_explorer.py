"""The volume explorer in JupyterLab: planes are the stack's, a slice switched off is answered, views come back."""

import re

import pytest
from lab import ROOT, SHARED, Lab
from playwright.sync_api import expect

ROWS = ".cw-slice-rows [data-place]"
GREY = """(root) => {
  const canvas = root.querySelector('canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return [...pixels].filter((_, at) => at % 4 === 0);
}"""
BARS = """(curve) => {
  const boxes = [...curve.querySelectorAll('.cw-bar-attention')].map((bar) => bar.getBoundingClientRect());
  return [boxes[0].bottom - 4, boxes.map((box) => (box.left + box.right) / 2)];
}"""
STACK = "ex.view.open.stack.pixels"


@pytest.fixture
def page(lab: Lab, volume_run):
    "The explorer on the run, in a notebook."
    code = "from covid_workbench.widgets.volume_explorer import VolumeExplorer"
    lab.open(lab.server.notebook("volumes.ipynb", f"{code}\nex = VolumeExplorer({str(volume_run)!r})\nex", ""))
    lab.run_all()
    lab.page.locator(f"{ROWS} .cw-switch:enabled").first.wait_for(timeout=120000)
    expect(lab.page.locator(".cw-curve .cw-bar-effect")).to_have_count(8, timeout=60000)
    lab.idle()
    return lab.page


def probabilities(page) -> list[str]:
    return page.locator(".cw-probability").all_inner_texts()


def shows_answer(lab: Lab, question: str) -> None:
    "The page shows what the model answers in the kernel."
    lab.kernel("from covid_workbench.evaluation.volume_whatif import VolumeQuestion, answer_volume; print(1)")
    asked = f"answer_volume(ex.view.open.read, VolumeQuestion({question})).probabilities"
    wanted = [f"{value:.3f}" for value in lab.value(f"[float(p) for p in {asked}]")]
    expect(lab.page.locator(".cw-probability")).to_have_text(wanted, timeout=20000)


def test_planes_are_those_of_the_stack(lab: Lab, page):
    stage, place = page.locator(".cw-planes > .cw-stage"), lab.value("ex.stage.place")
    assert stage.evaluate(GREY) == lab.value(f"{STACK}[{place}].ravel().tolist()")
    coronal, sagittal = (page.locator(f"[data-plane={name}]") for name in ("coronal", "sagittal"))
    assert coronal.evaluate(GREY) == lab.value(f"{STACK}[::-1, ex.stage.row].ravel().tolist()")
    assert sagittal.evaluate(GREY) == lab.value(f"{STACK}[::-1, :, ex.stage.column].ravel().tolist()")

    # scrolling and cross-sections need no kernel
    lab.start("import time; time.sleep(6)")
    lab.attend(".cw-planes > .cw-stage")
    page.keyboard.press("Home")
    expect(page.locator(".cw-place")).to_have_text("0 / 11")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".cw-place")).to_have_text("1 / 11")
    expect(page.locator(".cw-slice-words")).to_contain_text("not read")
    box = coronal.bounding_box()
    coronal.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.05})
    expect(page.locator(".cw-place")).to_have_text("11 / 11")
    page.keyboard.press("c")
    expect(page.locator(".cw-layer .cw-cross")).to_have_count(6)
    assert "[*]" in page.locator(".jp-InputPrompt").last.inner_text()
    lab.idle()
    place, column, selected = lab.value("[ex.stage.place, ex.stage.column, ex.panel.place]")
    assert place == selected == 11 and column in (15, 16)
    page.wait_for_timeout(300)
    assert sagittal.evaluate(GREY) == lab.value(f"{STACK}[::-1, :, {column}].ravel().tolist()")

    # outlines come and go
    lab.attend(".cw-planes > .cw-stage")
    for key in "lt":
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.locator(".cw-planes path").count() == 0 and lab.value("ex.stage.layers") == ["lines"]


def test_slices_are_switched_off_and_moved(lab: Lab, page):
    before, read = probabilities(page), lab.value("ex.panel.reading")
    assert len(read) == 8 and page.locator(".cw-curve .cw-bar-attention").count() == 8
    lab.press(page.locator(ROWS).nth(2))
    lab.attend(".cw-slice-rows")
    page.keyboard.press(" ")
    page.locator(".cw-strong").wait_for(timeout=10000)
    lab.idle()
    expect(page.locator(f".cw-curve [data-off='{read[2]}']")).to_have_count(1)
    shows_answer(lab, f"off=({read[2]},)")
    page.locator(ROWS).first.click()
    page.keyboard.press("Control+z")
    page.locator(".cw-strong").wait_for(state="detached", timeout=10000)
    expect(page.locator(".cw-probability")).to_have_text(before, timeout=10000)
    lab.press(page.locator(f"{ROWS} .cw-switch").nth(3))
    page.locator(".cw-strong").wait_for(timeout=10000)
    assert lab.value("ex.panel.off") == [read[3]]
    page.locator(ROWS).nth(5).drag_to(page.locator(ROWS).nth(1))
    page.locator("[data-key='order-custom']").wait_for(timeout=10000)
    assert lab.value("ex.panel.reading") == [read[0], read[5], *read[1:5], *read[6:]]
    lab.attend(".cw-slice-rows")
    page.keyboard.press("Escape")
    page.locator(".cw-strong").wait_for(state="detached", timeout=10000)
    expect(page.locator(".cw-probability")).to_have_text(before, timeout=10000)

    # a range on the curve, a double click on one of its bars
    curve = page.locator(".cw-curve")
    expect(curve.locator(".cw-bar-effect")).to_have_count(8, timeout=10000)
    curve.scroll_into_view_if_needed()
    y, across = curve.evaluate(BARS)
    page.keyboard.down("Shift")
    page.mouse.move(across[0] - 2, y)
    page.mouse.down()
    page.mouse.move(across[3] + 2, y, steps=6)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.locator(".cw-strong").wait_for(timeout=10000)
    lab.idle()
    assert lab.value("sorted(ex.panel.off)") == read[:4]
    curve.scroll_into_view_if_needed()
    expect(curve.locator(".cw-bar-effect")).to_have_count(4, timeout=10000)
    curve.dblclick(position={"x": across[1] - curve.bounding_box()["x"], "y": 60})
    page.wait_for_timeout(1500)
    assert lab.value("sorted(ex.panel.off)") == [read[0], *read[2:4]]

    # order by keys, then a slice moved
    lab.attend(".cw-slice-rows")
    page.keyboard.press("Escape")
    page.locator(".cw-strong").wait_for(state="detached", timeout=10000)
    page.keyboard.press("o")
    page.keyboard.press("v")
    page.locator("[data-key='order-reversed'][aria-checked='true']").wait_for(timeout=10000)
    lab.idle()
    shows_answer(lab, "'reversed'")
    page.locator(ROWS).first.click()
    lab.attend(".cw-slice-rows")
    page.keyboard.press("Alt+ArrowDown")
    page.locator("[data-key='order-custom']").wait_for(timeout=10000)
    lab.idle()
    moved = [read[-2], read[-1], *read[-3::-1]]
    assert lab.value("ex.panel.reading") == moved
    assert [int(row.get_attribute("data-place")) for row in page.locator(ROWS).all()] == moved


def test_a_view_comes_back(lab: Lab, page, tmp_path):
    page.locator(ROWS).nth(1).click()
    lab.attend(".cw-slice-rows")
    page.keyboard.press(" ")
    page.locator(".cw-strong").wait_for(timeout=10000)
    lab.attend(".cw-slice-rows")
    page.keyboard.press("x")
    expect(page.locator("[data-key='exact']")).to_have_attribute("aria-pressed", "true")
    lab.idle()
    held = lab.value("ex.state")
    off = held["question"]["off"]
    shows_answer(lab, f"off=({off[0]},), exact=True")
    said = probabilities(page)
    assert held["question"]["exact"]
    with page.expect_download(timeout=20000) as download:
        page.locator("[data-key='save']").select_option("html")
    download.value.save_as(tmp_path / "view.html")
    lab.save()
    page.reload()
    page.locator(ROWS).first.wait_for(timeout=60000)
    page.locator(".cw-switch[aria-checked='false']").wait_for(timeout=20000)
    expect(page.locator(".cw-probability")).to_have_text(said, timeout=20000)
    assert lab.value("ex.state") == held
    assert page.locator(".cw-curve .cw-bar-attention").count() == 7

    # another volume, then back from the link
    page.locator("[aria-label='the next volume']").click()
    page.locator(".cw-strong").wait_for(state="detached", timeout=10000)
    lab.idle()
    link = lab.value("ex.link")
    lab.kernel(f"ex.reopen({held!r}); print(1)")
    page.locator(".cw-strong").wait_for(timeout=10000)
    assert lab.value("ex.state") == held and lab.value("ex.link") != link

    # the saved page works alone
    saved, wrong = lab.context.new_page(), []
    saved.on("pageerror", lambda error: wrong.append(str(error)))
    saved.goto(f"file://{tmp_path / 'view.html'}")
    saved.locator(ROWS).nth(3).click()
    expect(saved.locator(".cw-slice-words")).to_contain_text("read as number 4")
    stage = saved.locator(".cw-planes > .cw-stage")
    place = int(re.match(r"\d+", saved.locator(".cw-place").inner_text())[0])
    saved.wait_for_timeout(300)
    assert stage.evaluate(GREY) == lab.value(f"{STACK}[{place}].ravel().tolist()")
    assert saved.locator(".cw-switch").first.is_disabled() and wrong == []


def test_the_notebook_runs(lab: Lab, volume_run):
    lab.open(lab.server.copy(ROOT / "nbs/explore/volumes.ipynb", run=str(volume_run)))
    lab.run_all()
    lab.page.locator(ROWS).first.wait_for(timeout=120000)
    lab.idle()
    expect(lab.page.locator(".jp-RenderedHTMLCommon table").last).to_contain_text("reversed")


HU_SCAN = """import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from volumes_kit import scan, write_nifti
from covid_workbench.data.scans import scan_table
from covid_workbench.data.windows import WINDOWS, apply_window
from covid_workbench.widgets.volume_explorer import VolumeExplorer
hu = scan(12, 64, 64)
ex = VolumeExplorer({run!r}, scan_table(write_nifti(Path("scan.nii"), hu)))
ex"""
PLANES = """[[int(v) for v in block.ravel()] for block in (
    shown[ex.stage.place], shown[::-1, ex.stage.row], shown[::-1, :, ex.stage.column])]"""


def drawn(page) -> list[list[int]]:
    "Grey values of the axial, the coronal and the sagittal plane."
    page.wait_for_timeout(400)
    places = (".cw-planes > .cw-stage", "[data-plane=coronal]", "[data-plane=sagittal]")
    return [page.locator(place).evaluate(GREY) for place in places]


def test_windows_act_on_hu_in_all_planes(lab: Lab, volume_run):
    page = lab.page
    lab.open(lab.server.notebook("hu.ipynb", HU_SCAN.format(tests=str(ROOT / "tests"), run=str(volume_run)), ""))
    lab.run_all()
    page.locator(f"{ROWS} .cw-switch:enabled").first.wait_for(timeout=120000)
    lab.idle()
    assert page.locator(".cw-edge:visible").all_inner_texts() == [*"ALPR", *"HLFR", *"HPFA"]
    expect(page.locator(".cw-no-hu")).to_be_hidden()
    lab.kernel("shown = ex.view.open.stack.pixels; print(1)")
    assert drawn(page) == lab.value(PLANES)

    page.get_by_label("window", exact=True).select_option("mediastinum")
    lab.kernel("shown = apply_window(hu, WINDOWS['mediastinum']); print(1)")
    assert drawn(page) == lab.value(PLANES)
    fields = [page.get_by_label(f"{name} of the window in HU") for name in ("width", "level")]
    assert [field.input_value() for field in fields] == ["350", "40"]
    fields[0].fill("1000")
    fields[0].press("Enter")
    fields[1].fill("-100")
    fields[1].press("Enter")
    page.wait_for_timeout(500)
    assert lab.value("ex.stage.hu_window") == [-600, 400]
    lab.kernel("shown = apply_window(hu, (-600, 400)); print(1)")
    assert drawn(page) == lab.value(PLANES)
    held = lab.value("ex.state")
    lab.attend(".cw-planes > .cw-stage")
    page.keyboard.press("Alt+0")
    page.wait_for_timeout(500)
    assert lab.value("ex.stage.hu_window") == []
    lab.kernel(f"ex.reopen({held!r}); print(1)")
    assert drawn(page) == lab.value(PLANES)


OUTSIDE = """() => {
  const root = document.querySelector('.cw-explorer'), edge = root.getBoundingClientRect(), found = [];
  const beyond = (one, box) => one.left < box.left - 1 || one.right > box.right + 1;
  for (const one of root.querySelectorAll('*')) {
    const box = one.getBoundingClientRect();
    if (box.width && !one.closest('.cw-stage') && beyond(box, edge)) found.push(one.outerHTML.slice(0, 80));
  }
  for (const text of root.querySelectorAll('.cw-curve text'))
    if (beyond(text.getBoundingClientRect(), text.closest('svg').getBoundingClientRect())) found.push(text.textContent);
  return found;
}"""
OVERLAP = """() => {
  const parts = [...document.querySelectorAll('.cw-controls, .cw-planes, .cw-foot, .cw-slice-words, .cw-curve-card, ' +
    '.cw-verdict, .cw-slice-rows, .cw-header')].map((one) => [one.className, one.getBoundingClientRect()]);
  return parts.flatMap(([name, a], at) => parts.slice(at + 1).filter(([, b]) =>
    a.width && b.width && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
  ).map(([other]) => `${name} and ${other}`));
}"""


@pytest.mark.parametrize("width", [1280, 900])
def test_nothing_is_cut_off_in_a_narrow_window(lab: Lab, page, width):
    page.set_viewport_size({"width": width, "height": 1000})
    for size in ("1e-4", "1e-6", "100"):
        lab.kernel(
            f"effects = {{place: value * {size} for place, value in ex.curve.effects.items()}}\n"
            "for part in ex.about_slices: part.effects = effects\nprint(1)"
        )
        page.wait_for_timeout(400)
        assert page.evaluate(OUTSIDE) == [] and page.evaluate(OVERLAP) == []
        told = page.locator(f"{ROWS} .cw-cell > b").all_inner_texts()
        assert len(told) == 8 and not any(re.fullmatch("[+−]0[.]0*", figure) for figure in told)


MEDSEG = SHARED / "data" / "medseg2-volumes"


@pytest.mark.skipif(not MEDSEG.is_dir(), reason=f"research material is not there ({MEDSEG})")
def test_a_real_volume_is_read_asked_and_opened_again(lab: Lab, volume_run, tmp_path):
    page = lab.page
    code = "from covid_workbench.widgets.volume_explorer import VolumeExplorer"
    opened = f"{code}\nex = VolumeExplorer({str(volume_run)!r}, {str(MEDSEG)!r}, volume='medseg2_1/1')\nex"
    lab.open(lab.server.notebook("real.ipynb", opened, ""))
    lab.run_all()
    page.locator(f"{ROWS} .cw-switch:enabled").first.wait_for(timeout=120000)
    lab.idle()
    assert page.locator(".cw-edge:visible").count() == 0  # its files say nothing of left and right
    expect(page.locator(".cw-no-hu")).to_be_visible()
    expect(page.locator(".cw-curve")).to_contain_text("first slice")
    expect(page.get_by_text("The files do not say how the patient lies")).to_be_visible()
    lab.attend(".cw-planes > .cw-stage")
    page.keyboard.press("Home")
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    expect(page.locator(".cw-place")).to_have_text("12 / 44")
    lab.attend(".cw-planes > .cw-stage")
    page.keyboard.press("Alt+3")
    read = lab.value("ex.panel.reading")
    lab.press(page.locator(f"{ROWS} .cw-switch").nth(2))
    page.locator(".cw-strong").wait_for(timeout=10000)
    lab.idle()
    shows_answer(lab, f"off=({read[2]},)")
    lab.kernel("shown = ex.view.open.stack.pixels; ex.save('view.html'); ex.save('view.svg'); print(1)")
    held, said = lab.value("ex.state"), probabilities(page)
    assert held["place"] == 12 and held["question"]["off"] == [read[2]]
    page.locator("[aria-label='the next volume']").click()
    page.locator(".cw-strong").wait_for(state="detached", timeout=10000)
    lab.idle()
    lab.kernel(f"ex.reopen({held!r}); print(1)")
    page.locator(".cw-strong").wait_for(timeout=10000)
    assert lab.value("ex.state") == held and probabilities(page) == said
    alone, wrong = lab.context.new_page(), []
    alone.on("pageerror", lambda error: wrong.append(str(error)))
    alone.goto(f"file://{lab.server.folder / 'view.html'}")
    expect(alone.locator(".cw-place")).to_have_text("12 / 44")
    assert drawn(alone) == drawn(page) and wrong == []
