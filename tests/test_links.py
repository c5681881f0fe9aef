"""Links to a view: each time, after other links, with any name; what cannot be restored says so and changes nothing."""

import copy
import json
from urllib.parse import quote

import pytest

from covid_workbench.errors import InputError
from covid_workbench.widgets.explorer import AttentionExplorer
from covid_workbench.widgets.state import StateGuard, state_text


@pytest.fixture
def explorer(finished):
    return AttentionExplorer(finished)


def told(explorer) -> list[str]:
    "What the header says from now on."
    said = []
    explorer.header.send = lambda content: said.append(content.get("message", content))
    return said


def follow(explorer, link: str) -> None:
    "As the header does with the end of an address."
    explorer._act(None, {"act": "open", "state": f"#cw={link.split('#cw=')[1]}"}, None)


def test_one_link_after_another_shows_each_view(explorer):
    pane = explorer.panes[0]
    plain = explorer.link
    pane.panel.off, pane.agreement.branch = [pane.panel.slots[0]], "negative"
    other = next(name for name in pane.classes if name != pane.view.effect_class)
    pane.panel.effect_class = other
    asked, states = explorer.link, {}
    explorer.browser.slice = list(explorer.rows)[-1]
    elsewhere = explorer.link
    said = told(explorer)
    for link in (plain, asked, plain, elsewhere, asked, asked, elsewhere, plain):
        follow(explorer, link)
        pane.panel.order = "reversed"  # the reader's own steps in between
        follow(explorer, link)
        shown = explorer.state, pane.view.effect_class, pane.panel.effect_class, pane.verdict.answer
        assert states.setdefault(link, shown) == shown, link
        assert explorer.link == link
    assert said == [""] * 16 and len({str(shown) for shown in states.values()}) == 3
    assert states[plain][1] == states[plain][2] == pane.view.open.verdict != other == states[asked][1]


def test_a_name_with_a_percent_sign_survives():
    guard = StateGuard(1, {"slice": str})
    for name in ("100%41", "a%20b", "ä#1", '"', "50%"):
        text = state_text({"version": 1, "slice": name})
        for given in (text, f"  {text}\n", f"http://x/lab/tree/x.ipynb#cw={quote(text, safe='')}", quote(text)):
            assert guard.read(given)["slice"] == name, given


def test_what_cannot_be_restored_is_said_and_nothing_changes(explorer):
    pane = explorer.panes[0]
    pane.panel.off = [pane.panel.slots[0]]
    held, answer, said = explorer.state, pane.verdict.answer, told(explorer)

    def changed(**change) -> str:
        return f"#cw={quote(json.dumps(copy.deepcopy(held) | change))}"

    questions = [held["questions"][0] | {"off": [997]}]
    last = list(explorer.rows)[-1]
    for link, words in (
        (changed(slice="P9"), "slice 'P9' is not among"),
        (changed(slice=last, questions=questions), "region 997 of slice"),
        (changed(branch="upper"), "branch 'upper' is not among"),
        ("#cw=%7B%22version", "not a view"),
        ("#cw=100%", "not a view"),
    ):
        follow(explorer, link)
        assert "was not followed, the view is as it was" in said[-1] and words in said[-1]
        assert explorer.state == held and pane.verdict.answer == answer
    with pytest.raises(InputError, match="finds .* regions; the run or the slice has changed"):
        explorer.reopen(changed(questions=questions))


def test_what_goes_wrong_inside_is_said_too(explorer, monkeypatch):
    said = told(explorer)
    monkeypatch.setattr(explorer, "reopen", lambda state: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.open_link(explorer.link)
    assert "was not followed" in said[-1] and "ZeroDivisionError" in said[-1]


def test_the_header_tells_the_state_after_what_came_before(explorer):
    answered = []
    explorer.header.send = answered.append
    explorer.panes[0].canvas.set_state({"window": 90.0})  # as the browser sets it
    explorer.header._handle_custom_msg({"tell": "state"}, [])
    (own,) = [one for one in answered if "state" in one]
    assert json.loads(own["state"]) == explorer.state and explorer.state["window"] == 90.0


def test_an_older_link_has_no_branch(explorer):
    older = {name: value for name, value in explorer.state.items() if name != "branch"}
    explorer.panes[0].agreement.branch = "negative"
    explorer.reopen(f"#cw={quote(json.dumps(older))}")
    assert explorer.state == older | {"branch": "positive"}
