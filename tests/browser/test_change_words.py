"""What the verdict says of a change is what Python says of it (tests/change_words.csv)."""

import csv

from lab import ROOT

STATIC = ROOT / "covid_workbench" / "widgets" / "static"
SAID = "([p, q, a, b]) => changeWords(['Normal', 'CP'], 1, 1, [1 - p, p], [1 - q, q], b - a)"


def test_a_change_shows_in_what_is_said_of_it(browser):
    page = browser.new_page()
    script = "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in ("common", "verdict"))
    page.evaluate(f"() => {{{script.replace('export default', 'window.parts =')};window.changeWords = changeWords}}")
    with (ROOT / "tests" / "change_words.csv").open(encoding="utf-8") as file:
        cases = list(csv.DictReader(file))
    for case in cases:
        figures = [float(case[name]) for name in ("p before", "p after", "logit before", "logit after")]
        assert page.evaluate(SAID, figures) == case["words"]
    assert len(cases) > 5
    turned = page.evaluate("() => changeWords(['Normal', 'CP'], 0, 1, [0.8, 0.2], [0.2, 0.8], 2)")
    assert turned == "Normal 0.80 → CP 0.80"
