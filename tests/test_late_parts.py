"""What a page is told, and in which order: parts that came late hear all, and nothing is named before it is there."""

import pytest

from covid_workbench.evaluation.whatif import answer
from covid_workbench.widgets.chart import Chart, lasting_script
from covid_workbench.widgets.explorer import AttentionExplorer
from covid_workbench.widgets.parts import RunHeader


@pytest.fixture
def sent(monkeypatch):
    "What a widget sends: names of traits, or a message."

    def watch(widget):
        told = []
        monkeypatch.setattr(widget, "_send", lambda message, buffers=None: told.append(message))
        widget._handle_custom_msg({"ready": True}, [])
        states = [message["state"] for message in told if message["method"] == "update"]
        return {name: value for state in states for name, value in state.items()}, told[-1].get("content")

    return watch


def test_a_part_that_appears_is_told_all_but_its_code(sent):
    header = RunHeader(where="Patient 7")
    header.comm.kernel = None
    state, last = sent(header)
    assert state["where"] == "Patient 7" and set(state) == set(header.keys) - {"_esm", "_css"}
    assert last == {"alive": True}


def test_a_chart_that_appears_is_told_what_it_shows_now(sent):
    chart = Chart()
    chart.add_scatter(y=[1.0, 2.0], name="shown later")
    state, last = sent(chart)
    assert [trace["name"] for trace in state["_widget_data"]] == ["shown later"]
    assert state["_dom_classes"] == ("cw-chart",) and state["_config"]["showSendToCloud"] is False
    assert "_esm" not in state and last == {"alive": True}


def test_plotly_keeps_its_name_and_loses_only_its_default_export():
    "The bundle holds modules as texts, with exports of their own."
    script = Chart._esm
    assert script.count("cwLasting as default") == 1 and script.rstrip().endswith(");")
    assert script.index("cwLasting as default") > script.index("as default")  # an earlier one stays
    with pytest.raises(ValueError, match="no default export"):
        lasting_script("export {a as b}")


def test_a_slice_is_named_when_it_is_there(finished):
    "Header and list follow the picture and the answer, and never go before them."
    explorer, told = AttentionExplorer(finished), []
    pane, other = explorer.panes[0], [name for name in explorer.rows if name != explorer.browser.slice][0]
    watched = {"picture": (pane.canvas, "pixels"), "verdict": (pane.verdict, "answer"), "rows": (pane.panel, "slots")}
    watched |= {"where": (explorer.header, "where"), "opened": (explorer.browser, "opened")}
    for name, (part, trait) in watched.items():
        part.observe(lambda change, name=name: told.append(name), trait)
    assert explorer.browser.opened == explorer.browser.slice
    explorer.browser.slice = other
    first = {name: told.index(name) for name in watched}
    assert first["picture"] < first["where"] and first["verdict"] < first["where"]
    assert told[-1] == "opened" and explorer.browser.opened == other


def test_the_weights_before_a_what_if_stay(finished):
    pane = AttentionExplorer(finished).panes[0]
    own = answer(pane.read).attention[0].tolist()
    before = {"slots": list(pane.panel.slots), "weights": own}
    pane.panel.off = [pane.panel.slots[0]]
    assert pane.panel.before == before and pane.panel.weights != own
