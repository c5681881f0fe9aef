"""Pages for people: figures by their names, headings, links to sections, no raw keys; answers with their signs."""

import re

import numpy as np
import pytest

from covid_workbench.evaluation.explained_words import shown_figure
from covid_workbench.evaluation.run_certainty import answered_by, certainty
from covid_workbench.figure_names import (
    FIGURE_NAMES,
    MEANINGS,
    column_name,
    figure_name,
    meanings,
    probability_words,
    way_name,
)
from covid_workbench.reports.answer_page import AnswerPage, attention_kind, key_html, regions_html, volume_words
from covid_workbench.reports.curves_of_scores import figure_words
from covid_workbench.reports.explanation_report import curve_plot, groups_table
from covid_workbench.reports.pictures import overlay_png, slot_colours
from covid_workbench.reports.run_report import contents_html, write_page
from covid_workbench.reports.scores_page import certainty_table, write_scores

RAW = re.compile(r">[^<]*(?:ap50|map50_95|\b(?:rho|auc|gradient_input|leave_one_out|shapley|order_range)\b)[^<]*<")


def bare(page: str) -> str:
    "A page without its scripts."
    return re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)


def test_every_figure_has_one_name_and_keeps_it():
    assert [figure_name(key) for key in ("ap50", "iou_pooled", "balanced_accuracy")] == [
        "AP@0.5",
        "IoU of all pixels",
        "balanced accuracy",
    ]
    assert all("_" not in name for name in (*FIGURE_NAMES.values(), *MEANINGS))
    assert way_name("negative_attention") == "negative branch's attention"
    assert column_name("negative_rho_shapley_zeroed") == "ρ of negative branch's attention and Shapley values (zeroed)"
    assert column_name("uniform_change") == "change of p with equal weights"
    assert [name for name, _ in meanings(["FROC, IoU ≥ 0.1", "FROC, IoU ≥ 0.5", "cases"])] == ["FROC"]


def test_a_figure_that_rounds_to_nothing_has_no_sign():
    assert figure_words([-0.0004, -0.001, 0.0004], 3) == "0.000 (-0.001 to 0.000)" and figure_words([None] * 3) == "–"
    assert shown_figure([-0.001, -0.2, None]) == "0.00 [no interval]"


def test_a_page_of_scores_has_links_headings_and_no_raw_names(scored):
    page = bare(write_scores(scored).read_text())
    parts = re.findall(r'<h2 id="(part-\d+)">([^<]+)</h2>', page)
    assert re.findall(r'<a href="#(part-\d+)">([^<]+)</a>', page) == parts and len(parts) >= 4
    assert "Classes, slice by slice" in dict((name, at) for at, name in parts) and not RAW.search(page)
    assert not re.search(r"</table></div><div[^>]*><table>", page)  # no two tables without a heading between
    assert "IoU of all pixels" in page and "Rests on patients" in page and "had a say" not in page
    own = certainty(answered_by(scored))["classification"]
    table = certainty_table(own).set_index("figure")
    few = min(own["with_a_say"], key=own["with_a_say"].get)
    assert own["with_a_say"][few] < own["patients"]
    assert table.loc[few, "rests on patients"] == str(own["with_a_say"][few])


def test_few_sections_have_no_list_of_contents(tmp_path):
    assert contents_html(["a", "b", "c"]) == ""
    page = write_page(tmp_path / "p.html", "t", "", [(f"<{at}>", "") for at in range(4)]).read_text()
    assert '<a href="#part-4">&lt;3&gt;</a>' in page and '<h2 id="part-4">&lt;3&gt;</h2>' in page


def test_explanations_are_named_as_the_field_names_them():
    figure, key = [0.5, 0.4, 0.6], "rho_leave_one_out_dropped"
    held = {"all": figure, "right": figure, "wrong": figure, "classes": {}}
    table = groups_table({"figures": {key: held}}, [key])
    assert table["figure"].tolist() == ["ρ of attention and leaving one out (dropped)"]
    names = ("deletion_shapley", "deletion_negative_attention", "deletion_random")
    drawn = curve_plot(dict.fromkeys(names, [figure, figure]), "deletion")
    for words in ("Shapley values", "negative branch's attention", "a random order", "probability of the class"):
        assert words.replace("'", "&#x27;") in drawn or words in drawn
    assert drawn.count("stroke-dasharray") == 4  # of a line and of its key


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_split_is_said_once_in_words(scored, split):
    page = bare(write_scores(scored, split=split).read_text())
    assert f"Figures of the {split} split" in page and f"of {split}: classes" not in page


def regions(*weights) -> list[dict]:
    "Three regions side by side, as `predictions.json` has them."
    boxes = [[10.0 + 30 * at, 10, 30 + 30 * at, 40] for at in range(len(weights))]
    return [
        {"rank": at, "box": box, "score": 0.5, "attention": list(own)}
        for at, (box, own) in enumerate(zip(boxes, weights), 1)
    ]


TWO, ONE, SIGNED = regions((0.7, 0.1), (0.2, 0.8)), regions((0.9,), (0.1,)), regions((0.5,), (-0.4,))


def cells(html: str) -> list[list[str]]:
    "The text of a table's body, row by row."
    rows = re.findall(r"<tr>(.*?)</tr>", html.partition("<tbody>")[2])
    return [[re.sub("<[^>]+>", "", one) for one in re.findall(r"<td>(.*?)</td>", row)] for row in rows]


def test_the_tables_say_which_way_attention_speaks():
    html = regions_html(TWO, attention_kind([{"regions": TWO}]))
    assert "<th>attention +</th><th>attention −</th><th>net</th>" in html
    assert cells(html) == [["1", "0.50", "0.700", "0.100", "+0.600"], ["2", "0.50", "0.200", "0.800", "−0.600"]]
    assert attention_kind([{"regions": SIGNED}]) == "signed" and attention_kind([{"regions": ONE}]) == "one branch"
    html = regions_html(SIGNED, "signed", "slot weight")
    assert "<th>slot weight</th>" in html and cells(html)[1] == ["2", "0.50", "−0.400"]
    assert "<th>attention</th></tr>" in regions_html(ONE, "one branch")
    none = regions((), ())
    assert attention_kind([{"regions": none}]) == "none" and cells(regions_html(none, "none")) == [
        ["1", "0.50"],
        ["2", "0.50"],
    ]
    assert attention_kind([{"lesions": []}]) == "" and regions_html((), "") == ""


def test_a_region_in_the_table_has_its_colour_on_the_overlay():
    boxes, weights = np.array([one["box"] for one in TWO]), np.array([one["attention"] for one in TWO]).T
    picture = np.asarray(overlay_png(np.full((128, 128), 90, np.uint8), None, regions=boxes, attention=weights))
    blue, orange = slot_colours(boxes, weights)
    html = regions_html(TWO, "two branches")
    for colour, box in ((blue, boxes[0]), (orange, boxes[1])):
        drawn = picture[int(4 * (box[1] + 15)), int(4 * box[2])]  # the right side
        assert "#" + "".join(f"{part:02X}" for part in drawn) == colour and f"border-color:{colour}" in html
    assert int(blue[5:], 16) > int(blue[1:3], 16) and int(orange[5:], 16) < int(orange[1:3], 16)


def test_the_key_says_what_colours_mean():
    two, one = key_html("two branches", {"GGO": "#1E9BFF"}), key_html("one branch", {})
    assert "border-color:#1E9BFF" in two and "GGO 0.90" in two and "Blue: the positive branch (+)" in two
    assert "less what the negative branch says against it" in two and "positive branch" not in one
    assert "colour the attention." in one and "weight ('mean' in the tables)" in key_html("one branch", {}, "mean")
    assert "Blue: above 0" in key_html("signed", {}) and "no weights" in key_html("none", {}) and key_html("", {}) == ""


def test_a_page_of_answers_has_headings_and_a_row_for_each_slice():
    chances = {"Normal": 0.00002, "CP": 0.99998}
    entry = {"class": "CP", "probabilities": chances, "lesions": [], "regions": TWO, "overlay": "overlays/a.png"}
    names = ["<span onclick='x'>", "b", "c", "d"]
    page = AnswerPage("run", [entry | {"id": name} for name in names], broken=[("<b>", "why")]).html
    assert "<span onclick" not in page and "<b>&lt;" not in page and "<td>&lt;b&gt;</td>" in page
    assert (links := re.findall(r'href="#(slice-\d)"', page)) == re.findall(r'<h2 id="(slice-\d)"', page)
    assert len(links) == 4
    assert not re.search(r"</table><table>", page) and page.count("<h3>Class of the slice</h3>") == 4
    assert "&gt; 0.999" in page and "&lt; 0.001" in page
    assert "All slices" not in AnswerPage("run", [entry | {"id": "b"}]).html


def test_a_probability_is_never_rounded_to_certainty():
    assert [probability_words(p) for p in (0.9996, 0.9994, 0.0004, 0.0006, 1.0)] == [
        "> 0.999",
        "0.999",
        "< 0.001",
        "0.001",
        "> 0.999",
    ]
    assert probability_words(0.997, 2) == "> 0.99"


def test_what_holds_for_several_volumes_is_said_once():
    few = "Volume {} has 2 slices, which are short of a scan (at least 10): its answer rests on little."
    volumes = [{"volume": f"P{at}/1", "notes": [few.format(f"P{at}/1")]} for at in range(6)]
    volumes[1]["notes"].append("Volume P1/1: 1 of its 2 slices show no body.")
    first, second = volume_words(volumes)
    assert first == few.format("P0/1") + " The same of 5 more: P1/1, P2/1, P3/1, ..."
    assert second == "Volume P1/1: 1 of its 2 slices show no body."
    assert volume_words(volumes[:1]) == [few.format("P0/1")] and volume_words([]) == []
