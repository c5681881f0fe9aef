"""A saved page in Chromium without a network: what it answers is what the model answers, to half precision."""

import json
import re
import subprocess

import pytest
from lab import ROOT

MAKE = """
import json, sys, torch
torch.set_num_threads(1)
from covid_workbench.evaluation.agreement import agreement_of
from covid_workbench.evaluation.answer_tables import answer_table
from covid_workbench.evaluation.whatif import Question, answer, attention_of_regions, effects
from covid_workbench.runs.run import Run
from covid_workbench.widgets.answering_page import write_page
from covid_workbench.widgets.explorer import AttentionExplorer

def said(view, mode, off, number):
    "How attention agrees with effects, from the numbers of half precision that the page has."
    table = answer_table(view.read, mode)
    row, effects = table.row(off), {one: float(by[number]) for one, by in table.effects(off).items()}
    slots = table.slots[row if len(table.slots) > 1 else 0].tolist()
    effects = {one: value for one, value in effects.items() if one in slots}
    weights = table.weights[row].astype(float)[0]
    looked = [sum(w for w, s in zip(weights, slots) if s == one) for one in effects]
    return agreement_of(looked, list(effects.values())).plain

run, out = Run.open(sys.argv[1]), sys.argv[2]
ids = list(run.scored_table().split("test").frame["id"])[:2]
write_page(run, out + "/page.html", ids=ids, progress=False)
explorer, told = AttentionExplorer(run), {}
for slice_id in ids:
    explorer.browser.slice = slice_id
    view, told[slice_id] = explorer.view.runs[0], []
    players = sorted(set(explorer.panes[0].panel.slots))
    for mode in ("dropped", "refilled", "zeroed"):
        for off in (players[:0], players[:1], players[1:3], players[1:]):
            question = Question(off=tuple(off), off_mode=mode)
            evidence, number = answer(view.read, question), view.classes.index(view.effect_class)
            told[slice_id].append({
                "mode": mode, "off": off,
                "p": evidence.probabilities[0].tolist(), "logits": evidence.logits[0].tolist(),
                "slots": evidence.rois.regions[0].tolist(), "weights": evidence.attention[0].tolist(),
                "agreement": {one: said(view, one, off, number) for one in ("dropped", "refilled", "zeroed")},
                "effects": {one: float(by[number]) for one, by in effects(view.read, question).items()},
            })
json.dump(told, open(out + "/told.json", "w"))
"""


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory):
    "A page of two slices, and what the model answers to nine questions of each."
    folder = tmp_path_factory.mktemp("page")
    python = str(ROOT / ".venv/bin/python")
    subprocess.run([python, "-c", MAKE, str(runs / "lstm2"), str(folder)], check=True, cwd=ROOT)
    return folder / "page.html", json.loads((folder / "told.json").read_text())


@pytest.fixture
def page(made, browser):
    "The page, opened from its file with the network off; nothing went wrong in it and it asked for nothing."
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    found, trouble, asked = context.new_page(), [], []
    found.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: trouble.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    found.goto(made[0].as_uri())
    found.locator(".cw-row[data-slot='1']").first.wait_for(timeout=20000)
    yield found
    assert trouble == [] and all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    context.close()


def figure(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "") or "nan")


def ask(page, mode: str, off: list[int]) -> None:
    "Switch regions on and off as a reader does."
    page.locator("[data-off-mode]").select_option(mode)
    for wanted in ("true", "false"):  # all on first, so that the last one on is never in the way
        for region in page.locator(".cw-row[data-region]").evaluate_all("rows => rows.map(row => row.dataset.region)"):
            switch = page.locator(f"[data-switch='{region}']").first
            if (int(region) in off or wanted == "true") and switch.count() and not switch.is_disabled():
                if switch.get_attribute("aria-checked") != wanted:
                    switch.click()
                    page.wait_for_timeout(60)


def test_what_is_off_is_answered_as_the_model_does(page, made):
    for slice_id, questions in made[1].items():
        page.locator(f"[data-open='{slice_id}']").click()
        page.locator(f"[data-open='{slice_id}'][aria-pressed='true']").wait_for(timeout=5000)
        for question in questions:
            ask(page, question["mode"], question["off"])
            rows = page.locator(".cw-row[data-slot]")
            slots = rows.evaluate_all("rows => rows.map(row => Number(row.dataset.region))")
            assert slots == question["slots"], (slice_id, question)
            shown = [figure(one) for one in page.locator(".cw-class[data-class] .cw-probability").all_inner_texts()]
            assert shown == pytest.approx(question["p"], abs=2e-3)
            logits = [figure(one) for one in page.locator(".cw-class[data-class] .cw-logit-value").all_inner_texts()]
            assert logits == pytest.approx(question["logits"], abs=0.012, rel=1e-3)
            cells = rows.evaluate_all(
                "rows => rows.map(row => [...row.querySelectorAll('.cw-cell i')].map(one => one.textContent))"
            )
            weights = [[figure(one[1]), figure(one[0])] for one in cells]  # the negative branch is on the left
            for branch, wanted in enumerate(question["weights"]):
                assert [one[branch] for one in weights] == pytest.approx(wanted, abs=2e-3)
            for region, wanted in question["effects"].items():
                text = page.locator(f".cw-row[data-region='{region}'] .cw-cell b").first.inner_text()
                if text:  # a candidate that came in for another has none
                    assert figure(text) == pytest.approx(wanted, abs=0.03)


def rho_words(found: dict) -> str:
    if found["rho"] is None:
        return "Too few regions" if found["verdict"] == "few" else "All regions have the same"
    sign = "+" if found["rho"] > 0 else "−" if found["rho"] < 0 else ""
    return f"ρ {sign}{abs(found['rho']):.2f}, chance ±{found['reach']:.2f}"


RULE = """
import json, sys
import numpy as np
from covid_workbench.evaluation.agreement import agreement_of
draws, told = np.random.default_rng(0), []
for count in (0, 3, 4, 5, 6, 7, 8, 12, 16):
    one, noise = draws.random(count), draws.normal(size=count)
    for own in (one, one.round(1), 1e-4 * one + (np.arange(count) == 1)):
        for other in (noise, -own, 1 / (own + 0.1), own + 0.25 * noise, own + 0.35 * noise):
            told.append([own.tolist(), other.tolist(), agreement_of(own, other).plain])
told.append([[1.0] * 8, list(range(8)), agreement_of([1.0] * 8, range(8)).plain])
print(json.dumps(told))
"""


def test_the_rule_of_agreement_is_the_same_in_both_languages(browser):
    python = str(ROOT / ".venv/bin/python")
    told = json.loads(subprocess.run([python, "-c", RULE], check=True, cwd=ROOT, capture_output=True, text=True).stdout)
    context = browser.new_context(offline=True)
    found = context.new_page()
    for name in ("common", "answers"):
        path = ROOT / "covid_workbench/widgets/static" / f"{name}.js"
        found.add_script_tag(content=path.read_text(encoding="utf-8"))
    for attention, effects, wanted in told:
        own = found.evaluate("([one, other]) => agreementIn(one, other)", [attention, effects])
        assert own == {
            name: value if isinstance(value, str | None) else pytest.approx(value) for name, value in wanted.items()
        }
    assert {wanted["verdict"] for _, _, wanted in told} >= {
        "few",
        "flat",
        "chance",
        "partly",
        "agrees",
        "ties",
        "against",
    }
    context.close()


def test_agreement_follows_the_rule_of_the_kernel(page, made):
    for slice_id, questions in made[1].items():
        page.locator(f"[data-open='{slice_id}']").click()
        page.locator(f"[data-open='{slice_id}'][aria-pressed='true']").wait_for(timeout=5000)
        for question in questions:
            ask(page, question["mode"], question["off"])
            for mode, found in question["agreement"].items():
                row = page.locator(f".cw-mode[data-mode='{mode}']")
                row.locator(".cw-rho-words", has_text=rho_words(found)).wait_for(timeout=5000)
                assert ("now" in row.get_attribute("class")) == (mode == question["mode"])
            claim = page.locator(".cw-verdict-words").inner_text()
            verdict = question["agreement"][question["mode"]]["verdict"]
            assert ("chance" in claim) == (verdict == "chance") and ("few" in claim) == (verdict == "few"), claim


def test_a_click_on_a_region_switches_it_off_and_the_last_stays_on(page, made):
    box = page.locator(".cw-hit").last
    region = box.get_attribute("data-region")
    box.dblclick()
    page.locator(f"[data-switch='{region}'][aria-checked='false']").wait_for(timeout=3000)
    page.locator(".cw-said", has_text=re.compile("→")).wait_for(timeout=3000)
    assert "order and β need the running notebook" in page.content()
    assert page.locator("[data-order='score'][role='radio']").is_disabled()  # what a page cannot answer is shut
    for _ in range(20):
        switch = page.locator("[data-switch][aria-checked='true']:not([disabled])")
        if not switch.count():
            break
        switch.first.click()
        page.wait_for_timeout(60)
    left = page.locator(".cw-row:not(.off)[data-region]").evaluate_all("rows => rows.map(row => row.dataset.region)")
    assert len(set(left)) == 1


def test_slices_change_by_button_and_key(page, made):
    first, second = made[1]
    where = page.locator(".cw-hit").count(), page.locator(".cw-row[data-slot='1']").inner_text()
    page.keyboard.press("]")
    page.locator(f"[data-open='{second}'][aria-pressed='true']").wait_for(timeout=5000)
    page.locator(f"[data-open='{first}']").click()
    page.locator(f"[data-open='{first}'][aria-pressed='true']").wait_for(timeout=5000)
    page.wait_for_timeout(200)
    assert where == (page.locator(".cw-hit").count(), page.locator(".cw-row[data-slot='1']").inner_text())
