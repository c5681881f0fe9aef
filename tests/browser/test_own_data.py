"""Own slices in the attention explorer: the list fills up behind the reader, and nothing looks right by default."""

import subprocess

import pytest
from lab import ROOT, Lab
from playwright.sync_api import expect
from test_attention_explorer import answered, opened, shown


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    "A phantom of other patients, some of whose slices have no label."
    folder = tmp_path_factory.mktemp("own") / "mine"
    code = f"""
from pathlib import Path
from covid_workbench.data.phantom import PhantomSettings, write_phantom
write_phantom(Path({str(folder)!r}), 6, seed=5, settings=PhantomSettings(size=64, slices=2), progress=False)
"""
    subprocess.run([str(ROOT / ".venv/bin/python"), "-c", code], check=True)
    return folder


def bars(page, name: str) -> int:
    return page.locator(f".cw-slice.{name}").count()


def test_own_slices_are_answered_behind_the_reader(lab: Lab, runs, own):
    slow = (
        "import threading; gate = threading.Event(); ask = ex.others.ask\n"
        "ex.others.ask = lambda one: (gate.wait(), ask(one))[1]"
    )
    page = opened(lab, f"ex = AttentionExplorer('{runs}/lstm2', '{own}')\n{slow}")
    line = page.locator(".cw-answering")
    expect(line).to_contain_text("0 of 12 slices answered", timeout=60000)
    assert bars(page, "unknown") > 0 and bars(page, "right") == bars(page, "wrong") == bars(page, "unjudged") == 0
    assert page.locator("[data-kind='wrong']").is_disabled()
    region = page.locator(".cw-row[data-slot='1']").get_attribute("data-region")
    page.locator(f".cw-row[data-region='{region}'] [role='switch']").click()  # while the thread of the others waits
    page.locator(f".cw-row.off[data-region='{region}']").wait_for(timeout=60000)
    expected = answered(lab, f"Question(off=({region},))")
    assert shown(page) == expected
    assert "0 of 12 slices answered" in line.inner_text()
    page.locator(".cw-answering button", has_text="stop").click()
    lab.kernel("gate.set(); print('open')")
    expect(line).to_contain_text("stopped", timeout=30000)
    page.locator(".cw-answering button", has_text="go on").click()
    expect(line).to_contain_text("12 slices answered here", timeout=120000)
    expect(page.locator(".cw-slice.unknown")).to_have_count(0)
    assert bars(page, "unjudged") > 0  # slices without a label
    colours = {
        name: page.locator(f".cw-slice.{name} i").first.evaluate(
            "one => [getComputedStyle(one).backgroundColor, getComputedStyle(one).opacity].join()"
        )
        for name in ("right", "wrong", "unjudged")
        if bars(page, name)
    }
    assert len(set(colours.values())) == len(colours) > 1
    page.locator("[data-kind='wrong']").click()
    expect(page.locator(".cw-slice:not(.wrong)")).to_have_count(0)
