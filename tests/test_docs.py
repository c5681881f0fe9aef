"""The documentation site without building it: staging, navigation, cache keys, outputs, equations, links."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))

from api import argument_of, settings_table  # noqa: E402
from docstrings import fence_examples  # noqa: E402
from equations import mathml  # noqa: E402
from execution import BuildError, Sources, absolute_imports, executed_outputs, read_sources  # noqa: E402
from links import check_site  # noqa: E402
from outputs import PLOTLY, SAVED, WIDGET, static_outputs  # noqa: E402
from pages import navigation, room_page  # noqa: E402
from rooms import ROOMS, room_notebooks, room_of  # noqa: E402
from staging import link_notebooks, module_of, stage_notebook  # noqa: E402

NBS = ROOT / "nbs"


def code(source: str, **metadata) -> dict:
    return {"cell_type": "code", "id": "c", "metadata": metadata, "source": source, "outputs": [], "execution_count": 1}


def stage(*sources: str) -> list[dict]:
    return stage_notebook({"cells": [code(source) for source in sources], "metadata": {}})["cells"]


def test_staging_drops_directives_and_tags_cells():
    exported, hidden, skipped, plain = stage(
        "#| default_exp a.b",
        "#| export\n\ndef f():\n    return 1\n\nLIMIT = 2",
        "# | hide\nassert True",
        "#| eval: false\nlaunch()",
        "x = 1  #| not a directive",
    )
    assert exported["source"].startswith("def f()") and exported["metadata"]["tags"] == ["hide-input"]
    assert exported["metadata"]["mystnb"]["code_prompt_show"] == "Code: f, LIMIT"
    assert hidden["source"] == "assert True" and hidden["metadata"]["tags"] == ["remove-cell"]
    assert skipped["metadata"]["tags"] == ["skip-execution"]
    labels = [
        cell["metadata"]["mystnb"]["code_prompt_show"] for cell in stage("#| export\n_A = 1", "#| export\nimport a")
    ]
    assert labels == ["Code: _A", "Code: imports"]
    assert plain["source"] == "x = 1  #| not a directive" and not plain["metadata"]["tags"]


def test_no_staged_notebook_holds_a_directive():
    for path in NBS.rglob("*.ipynb"):
        for cell in stage_notebook(json.loads(path.read_text()))["cells"]:
            assert cell["cell_type"] != "code" or not cell["source"].lstrip().startswith(("#|", "# |")), path.name


def test_parameters_keep_their_tag_and_modules_are_known():
    staged = stage_notebook({"cells": [code("a = 1", tags=["parameters"])], "metadata": {}})
    assert staged["cells"][0]["metadata"]["tags"] == ["parameters"]
    assert module_of({"cells": [code("#| default_exp data.slices")]}) == "covid_workbench.data.slices"


def test_mentions_of_notebooks_become_links():
    known = {"600_x.ipynb": "Studies"}
    assert link_notebooks("see `nbs/600_x.ipynb`", known) == "see [Studies](/600_x.ipynb)"
    assert link_notebooks("see `nbs/601_y.ipynb`", known) == "see `nbs/601_y.ipynb`"


def test_every_notebook_is_in_the_navigation_exactly_once():
    shown = Counter(page for _, pages in navigation(NBS) for page in pages if page.endswith(".ipynb"))
    shown += Counter(path.name for room in ROOMS for path in room_notebooks(NBS, room.name))
    there = {path.relative_to(NBS).as_posix() for path in NBS.rglob("*.ipynb")} - {"index.ipynb"}
    assert set(shown) == there and set(shown.values()) == {1}
    assert navigation(NBS)[0][0] == "Guides" and navigation(NBS)[1][0] == "Explore"


def test_every_numbered_notebook_has_a_room_and_every_room_its_sentence():
    assert [room.first for room in ROOMS] == [0, *(room.last + 1 for room in ROOMS[:-1])]
    for room in ROOMS:
        text = room_page(NBS, room.name)
        assert len(room.sentence.split()) > 5 and room.sentence.endswith(".") and f"\n> {room.sentence}\n" in text
        for path in room_notebooks(NBS, room.name):
            assert room_of(path) is room and f"/{path.stem}\n" in text


def test_a_key_changes_with_what_the_code_reaches_and_with_nothing_else():
    modules = {
        "covid_workbench.a": "from covid_workbench.b import x",
        "covid_workbench.b": "x = 1",
        "covid_workbench.c": "y = 1",
    }
    source, before = "from covid_workbench.a import x", Sources(modules, "")
    assert Sources(modules | {"covid_workbench.b": "x = 2"}, "").key(source) != before.key(source)
    assert Sources(modules | {"covid_workbench.c": "y = 2"}, "").key(source) == before.key(source)
    assert Sources(modules, "other").key(source) != before.key(source)
    assert before.below("import covid_workbench") == set(modules)
    text = "from ..errors import InputError\nfrom .rois import RoIBatch\nfrom . import norm\n"
    assert absolute_imports(text, "covid_workbench.models.zoo").splitlines() == [
        "from covid_workbench.errors import InputError",
        "from covid_workbench.models.rois import RoIBatch",
        "from covid_workbench.models import norm",
    ]
    reached = read_sources(ROOT).below("from covid_workbench.models.rois import RoIBatch, covid_workbench.models.zoo")
    assert {"covid_workbench.models.oneshot", "covid_workbench.errors", "covid_workbench.data.slices"} <= reached


def test_a_failing_cell_is_named():
    notebook = stage_notebook({"cells": [code("x = 1"), code("y = x / 0") | {"id": "second"}], "metadata": {}})
    with pytest.raises(BuildError, match=r"mine\.ipynb: code cell 2 \(second, `y = x / 0`\): ZeroDivisionError"):
        executed_outputs("mine.ipynb", notebook)


def shown(data: dict) -> str:
    output = {"output_type": "display_data", "data": data, "metadata": {}}
    [kept] = static_outputs([output], lambda page: "live/1.html", "_static/plotly.min.js")
    return kept["data"]["text/html"]


def test_outputs_need_no_kernel_and_no_network():
    assert 'src="live/1.html"' in shown({SAVED: "<html></html>", WIDGET: {}})
    assert "<svg/>" in shown({WIDGET: {}, "image/svg+xml": "<svg/>"}) and "JupyterLab" in shown({WIDGET: {}})
    figure = shown({PLOTLY: {"data": [{"type": "scatter", "y": [1, 2]}], "layout": {}}})
    assert "Plotly.newPlot" in figure and '<script src="_static/plotly.min.js">' in figure and "cdn" not in figure
    bar = [{"output_type": "stream", "name": "stderr", "text": "50 %"}]
    assert static_outputs(bar, str, "") == []


def test_examples_in_docstrings_are_code():
    text = "Adds.\n\n>>> add(1, 1)\n2\n>>> add(2, 2)\n\nMore."
    assert fence_examples(text) == "Adds.\n\n```pycon\n>>> add(1, 1)\n2\n>>> add(2, 2)\n```\n\nMore."


def test_classes_of_the_api_show_their_defaults():
    def default(annotation, value):
        return argument_of({"full_name": "a.b.size", "annotation": annotation, "value": value})[1:]

    assert default("str", "") == ("size", "str", "''") and default("bool", False) == ("size", "bool", "False")
    assert default("tuple[int, ...]", [1, 2]) == ("size", "tuple[int, ...]", "(1, 2)")
    assert default("dict", "field(...)")[2] == "field(...)" and default("int", None)[2] is None
    table = settings_table("covid_workbench.models.detector.DetectorSettings")
    assert "| `roi_samples` | `256` | proposals an image in the RoI losses |" in table
    assert settings_table("covid_workbench.models.protocol.Protocol") == []  # all are those of its bases
    assert settings_table("covid_workbench.models.cards.Card") is None


def test_equations_are_mathml():
    written = mathml(r"\begin{aligned} x &= 1 \\ y &\in \mathbb R \end{aligned}", "block")
    assert written.count("<mtr>") == 2 and "&#x0211D;" in written and 'display="block"' in written


def site(folder: Path, body: str) -> list[str]:
    (folder / "b.html").write_text('<h1 id="there">B</h1>')
    (folder / "a.html").write_text(f"<html><body>{body}</body></html>")
    return check_site(folder)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="c.html">x</a>', "link to c.html, which is not there"),
        ('<a href="b.html#gone">x</a>', "no anchor #gone"),
        ('<a href="#gone">x</a>', "no anchor #gone"),
        ('<img src="gone.png">', "link to gone.png"),
        ('<script src="https://cdn.example.org/x.js"></script>', "loads https://cdn.example.org/x.js from outside"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "from outside"),
        ('<img srcset="https://example.org/x.png 2x">', "from outside"),
        ('<style>@import url("https://example.org/f.css")</style>', "from outside"),
    ],
)
def test_the_link_checker_reports(tmp_path, body, problem):
    [found] = site(tmp_path, body)
    assert found.startswith("a.html: ") and problem in found


def test_the_link_checker_is_content_with_what_is_there(tmp_path):
    assert site(tmp_path, '<a href="b.html#there">b</a> <a href="https://example.org">out</a>') == []
