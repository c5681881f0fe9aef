"""Marks in JupyterLab: kept by a reader, refused where somebody else has the name, found by the next, in a link."""

from lab import EXPLORER, Lab, expect

SHOW = """from covid_workbench.widgets.explorer import AttentionExplorer
from covid_workbench.runs.selections import Selection, save_selection, selections_of
explorer = AttentionExplorer({run!r})
explorer"""


def test_marks_are_kept_and_found_again(lab: Lab, runs):
    run = str(runs / "attention")
    lab.open(lab.server.notebook("marks.ipynb", SHOW.format(run=run), ""))
    lab.run_all()
    page = lab.page
    mark = page.locator(f"{EXPLORER} [data-key=mark]")
    page.locator(f"{EXPLORER} .cw-row[data-region]").first.wait_for(timeout=240000)
    lab.attend(f"{EXPLORER} .cw-patients")
    page.keyboard.press("s")
    expect(mark).to_have_attribute("aria-pressed", "true", timeout=30000)
    page.locator(f"{EXPLORER} .cw-keep summary").click()
    page.get_by_label("name of the selection").fill("mine")
    page.get_by_label("note on the selection").fill("see")
    page.locator(f"{EXPLORER} [data-key=keep]").click()
    told = page.locator(f"{EXPLORER} .cw-marks [role=status]")
    expect(told).to_have_text("1 slice kept as mine.", timeout=60000)
    assert lab.value(f"[one.slices for one in selections_of({run!r}).values()]") == [
        [lab.value("explorer.browser.slice")]
    ]

    # somebody else keeps one; it is in the menu when the pointer comes, and its name is taken
    lab.kernel(f"save_selection({run!r}, Selection('theirs', list(explorer.rows)[1:3])); print(1)")
    page.locator(f"{EXPLORER} .cw-search").first.hover()
    page.locator(f"{EXPLORER} .cw-keep summary").hover()
    menu = page.get_by_label("among which slices")
    expect(menu.locator("option", has_text="theirs (2)")).to_have_count(1, timeout=60000)
    page.get_by_label("name of the selection").fill("theirs")
    page.locator(f"{EXPLORER} [data-key=keep]").click()
    expect(told).to_contain_text("'theirs' of 2 slices already", timeout=60000)
    menu.select_option(label="theirs (2)")
    expect(page.locator(f"{EXPLORER} .cw-slice")).to_have_count(2, timeout=30000)
    page.locator(f"{EXPLORER} [data-key=change]").click()
    expect(page.locator(f"{EXPLORER} .cw-slice.marked")).to_have_count(2, timeout=60000)
    expect(page.locator(f"{EXPLORER} .cw-marked-count")).to_have_text("2 marked")
    assert lab.value("explorer.state['marked'] == list(explorer.rows)[1:3]")
    assert lab.value("explorer.state['filter']['among']") == "in:theirs"
