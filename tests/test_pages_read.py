"""Pages for people: figures by their names, headings, links to sections, no raw keys; answers with their signs."""

import re

import pytest

from covid_workbench.evaluation.explained_words import shown_figure
from covid_workbench.evaluation.run_certainty import answered_by, certainty
from covid_workbench.figure_names import FIGURE_NAMES, MEANINGS, column_name, figure_name, meanings, way_name
from covid_workbench.reports.curves_of_scores import figure_words
from covid_workbench.reports.explanation_report import curve_plot, groups_table
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
    assert table.loc["accuracy", "rests on patients"] == str(own["with_a_say"]["accuracy"])


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
