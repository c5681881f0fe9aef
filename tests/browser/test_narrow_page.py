"""What is to be read at every width: nothing cut off, numbers on the axis, what was before in its place."""

import re
import subprocess

import pytest
from lab import ROOT

MAKE = """
import sys, torch
torch.set_num_threads(1)
from covid_workbench.widgets.explorer import AttentionExplorer

AttentionExplorer(sys.argv[1] + "/lstm2").save(sys.argv[2] + "/one.html")
AttentionExplorer([sys.argv[1] + "/lstm2", sys.argv[1] + "/attention"]).save(sys.argv[2] + "/two.html")
"""
# what ends beyond the part it belongs to, or beyond its row
PARTS = ".cw-verdict, .cw-card, .cw-row, .cw-controls, .cw-class"
CUT = """(parts) => [...document.querySelectorAll(parts)].flatMap((part) =>
  [...part.querySelectorAll('*')].filter((one) => {
    const [a, b] = [one.getBoundingClientRect(), part.getBoundingClientRect()];
    return a.width && b.width && !one.closest('svg') && (a.left < b.left - 1.5 || a.right > b.right + 1.5);
  }).map((one) => `${part.className}: ${one.outerHTML.slice(0, 90)}`))"""
OVERLAP = """() => {
  const parts = [...document.querySelectorAll('.cw-controls, .cw-ruler, .cw-stage, .cw-foot, .cw-verdict, .cw-rows, ' +
    '.cw-card')].map((one) => [one, one.getBoundingClientRect()]);
  return parts.flatMap(([one, a], at) => parts.slice(at + 1).filter(([other, b]) => !one.contains(other) &&
    a.width && b.width && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
  ).map(([other]) => `${one.className} and ${other.className}`));
}"""
NOTHING = """() => [...document.querySelectorAll('.cw-explorer, .cw-explorer *')].flatMap((one) =>
  [...one.childNodes].filter((own) => own.nodeType === 3 && /^(null|undefined|NaN)$/.test(own.data.trim()))).length"""
CROPPED = """() => [...document.querySelectorAll('.cw-row[data-region] .cw-name')].filter((one) =>
  one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"""
TICKS = """() => Object.fromEntries([...document.querySelectorAll('.cw-row[data-region]')].map((row) => [
  row.dataset.region, [...row.querySelectorAll('.cw-was')].map((one) => one.title + ' at ' + one.style.cssText)]))"""


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow")
    python = str(ROOT / ".venv/bin/python")
    subprocess.run([python, "-c", MAKE, str(runs), str(folder)], check=True, cwd=ROOT)
    return folder


@pytest.fixture
def opened(pages, browser):
    "Opens a saved page at a width."
    contexts = []

    def open_page(name: str, width: int):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, offline=True))
        page = contexts[-1].new_page()
        page.goto((pages / name).as_uri())
        page.locator(".cw-row[data-slot='1'] .cw-switch:enabled").first.wait_for(timeout=30000)
        return page

    yield open_page
    for context in contexts:
        context.close()


def switch_off(page, number: int) -> None:
    "Switch off the first `number` regions that are on, one after another."
    off = ".cw-switch[aria-checked='false']"
    for _ in range(number):
        before = page.locator(off).count()
        page.locator(".cw-rows").first.locator(".cw-switch[aria-checked='true']:enabled").first.click()
        page.wait_for_function(f'n => document.querySelectorAll("{off}").length > n', arg=before)


@pytest.mark.parametrize("width", [900, 1280])
@pytest.mark.parametrize("name", ["one.html", "two.html"])
def test_nothing_is_cut_off_and_nothing_overlaps(opened, name, width):
    page = opened(name, width)
    for more in (0, 1, 2):  # as evaluated, a little changed, one region in all four slots
        switch_off(page, more)
        assert page.evaluate(CUT, PARTS) == [] and page.evaluate(OVERLAP) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(NOTHING) == 0 and page.evaluate(CROPPED) == []
        wide = "() => [...document.querySelectorAll('.cw-class[data-class] svg')].map((one) => one.clientWidth)"
        assert min(page.evaluate(wide)) >= 75
        numbers = page.locator(".cw-numbers").first.locator("i").all_inner_texts()
        assert len(numbers) == 3 and numbers[1] == "0" and numbers[0] == f"−{numbers[2]}"


def test_what_was_before_stays_in_its_place(opened):
    page = opened("one.html", 1280)
    assert not any(page.evaluate(TICKS).values())
    diamonds = "() => [...document.querySelectorAll('.cw-verdict .cw-before')].map((one) => one.getAttribute('d'))"
    switch_off(page, 1)
    page.locator(".cw-was").first.wait_for(state="attached")
    ticks, before = page.evaluate(TICKS), page.evaluate(diamonds)
    assert any(ticks.values()) and len(before) == 3
    switch_off(page, 2)
    later = page.evaluate(TICKS)
    assert page.evaluate(diamonds) == before
    assert all(sorted(set(later[region])) == sorted(set(own)) for region, own in ticks.items() if own and later[region])


def test_a_reader_of_the_screen_hears_which_region_a_switch_is_of(opened):
    page = opened("one.html", 1280)
    names = page.locator(".cw-switch").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    assert all(re.fullmatch(r"region of rank [\d·–]+, .+ [01]\.\d\d", name) for name in names)
    regions = page.locator(".cw-switch").evaluate_all("all => all.map((one) => one.dataset.switch)")
    assert len(set(names)) == len(set(regions))
    switch_off(page, 1)  # it still has the name of its rank
    gone = page.locator(".cw-switch[aria-checked='false']")
    assert re.fullmatch(r"region that had rank [\d·–]+, .+", gone.first.get_attribute("aria-label"))
