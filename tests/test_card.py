"""The card of a run: every filled item has evidence in the run's files, and nothing else is claimed."""

import argparse
import json
import re
import subprocess
import sys

import pytest

from covid_workbench import card_commands
from covid_workbench.errors import InputError
from covid_workbench.evaluation.explanation import explain_run, explained_of
from covid_workbench.reports.card import CARD_FILES, card_json, card_page, write_card
from covid_workbench.reports.checklists import FACTS, answered, checklist_items, read_answers, shares
from covid_workbench.reports.croissant import CONFORMS_TO, REQUIRED
from covid_workbench.reports.run_facts import NOT_SCORED, STATUSES, RunFacts
from covid_workbench.runs.run import Run
from covid_workbench.runs.test_uses import log_test_use


def found(run, name):
    return FACTS[name](RunFacts(run))


def rewrite(run, name, change):
    "Change a JSON file of a run in place."
    content = json.loads((run.folder / name).read_text())
    change(content)
    (run.folder / name).write_text(json.dumps(content))


def test_every_filled_item_names_files_that_are_there_and_half_of_each_list_is_filled(scored):
    rows = answered(RunFacts(scored))
    for row in rows:
        assert row.status in STATUSES and row.found.text
        assert bool(row.found.files) == (row.found.status == "filled"), row.item.key
        assert all((scored.folder / name).is_file() for name in row.found.files), row.item.key
    for name in ("claim", "tripod", "reforms", "model-card"):
        counts = shares([row for row in rows if row.item.checklist == name])
        assert counts["filled"] >= counts["applicable"] / 2, (name, counts)


def test_the_lists_have_the_numbers_of_the_official_ones():
    numbers = {
        name: [i.item for i in checklist_items() if i.checklist == name] for name in ("claim", "tripod", "reforms")
    }
    assert numbers["claim"] == [str(number) for number in range(1, 45)]
    parts = (
        "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b "
    )
    parts += "18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
    assert numbers["tripod"] == parts.split()
    modules = {"1": "abc", "2": "abcde", "3": "abcdefg", "4": "abc", "5": "abcdef", "6": "abc", "7": "abc", "8": "ab"}
    assert numbers["reforms"] == [number + letter for number, letters in modules.items() for letter in letters]
    assert all(name in FACTS for item in checklist_items() for name in item.facts)


def test_figures_are_those_of_the_files(scored):
    held = scored.metrics["test"]["classification"]
    assert f"weighted F1 {held['weighted_f1']:.3f}" in found(scored, "results").text
    rows = scored.predictions.query("split == 'test' and label != ''")
    wrong = int((rows["predicted"] != rows["label"]).sum())
    assert found(scored, "failures").text.startswith(f"{wrong} of {len(rows)}" if wrong else "None of")
    assert re.search(r"none of 15 patients", found(scored, "disjoint").text)
    log_test_use(scored, "evaluate")
    assert "looked at once" in found(scored, "evaluation").text


def test_what_was_not_measured_is_never_claimed(scored):
    for name in ("metrics.json", "predictions.csv", "log.txt", "weights.safetensors", "cost.json"):
        (scored.folder / name).unlink(missing_ok=True)
    for name in ("results", "by_class", "measures", "uncertainty", "evaluation", "baselines", "failures", "external"):
        assert found(scored, name) == NOT_SCORED, name
    assert {found(scored, name).status for name in ("date", "version", "use")} == {"missing"}
    assert "not evaluated" in found(scored, "goal").text
    assert "F1 0." not in json.dumps(card_json(scored)["checklists"])


def test_real_data_leave_to_the_author_what_only_a_person_knows(scored):
    rewrite(scored, "experiment.json", lambda content: content["data"].update(source="clinic"))
    run = Run.open(scored.folder)
    for name in ("ethics", "dates", "annotators", "reference", "setting", "deidentification"):
        assert found(run, name).status == "author", name
        assert found(scored, name).status != "author", name
    assert found(run, "sources").rest and "no person" not in found(run, "sources").text


def test_a_patient_in_two_splits_is_said(scored):
    table = scored.table.frame
    patient = table["patient"][table["split"] == "train"].iloc[0]
    rows = (scored.folder / "slices.csv").read_text().splitlines(keepends=True)
    at = next(number for number, row in enumerate(rows) if f",{patient}," in row)
    rows[at] = rows[at].replace(",train,", ",test,")
    (scored.folder / "slices.csv").write_text("".join(rows))
    with pytest.raises(InputError, match="not the table that the run wrote"):
        found(scored, "disjoint")
    rewrite(scored, "experiment.json", lambda content: content["record"].pop("slices_sha256"))
    assert "Not disjoint: 1 patient" in found(scored, "disjoint").text
    assert "1 patient of it trained the run" in found(scored, "evaluation").text


def test_unknown_patients_get_no_interval_and_no_promise(scored):
    def forget(content):
        content["test"] |= {"patients": 0, "patients_unknown": content["test"]["slices"]}
        content["test"]["classification"]["f1_interval"] = None

    rewrite(scored, "metrics.json", forget)
    assert found(scored, "uncertainty").status == "missing"
    assert "without a patient" in found(scored, "results").text


def test_a_probability_that_is_no_number_is_refused_with_its_slice(scored):
    lines = (scored.folder / "predictions.csv").read_text().splitlines()
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(","))) for line in lines[1:]]
    row = next(row for row in rows if row["split"] == "test" and row["label"])
    wrong = next(name for name in ("Normal", "CP", "COVID-19") if name != row["label"])
    row.update({"predicted": wrong, f"p_{wrong}": "nan"})
    text = "\n".join([lines[0], *(",".join(row.values()) for row in rows)]) + "\n"
    (scored.folder / "predictions.csv").write_text(text)
    with pytest.raises(InputError, match=re.escape(row["id"])):
        found(scored, "failures")


def test_other_kinds_of_run_have_a_card(scored):
    def of_model(model):
        def change(content):
            content["one_shot"].update(model=model)
            content["training"].update(regime="two-phase")

        rewrite(scored, "experiment.json", change)
        return Run.open(scored.folder)

    assert "no threshold was chosen" in found(of_model("classifier"), "output").text
    assert card_json(of_model("classifier"))["counts"]["filled"] > 50
    rewrite(scored, "metrics.json", lambda content: content["test"].update(classification=None))
    assert found(of_model("mask-rcnn"), "by_class").status == "not applicable"
    assert card_json(of_model("mask-rcnn"))["counts"]["filled"] > 50
    assert found(Run.open(scored.folder), "explanation").status == "not applicable"


def test_the_page_opens_offline_and_shows_the_words_of_others_as_text(scored, tmp_path):
    answers = {"claim:44": "<script>alert(1)</script>", "claim:20": "As the split says."}
    page = write_card(scored, tmp_path / "card", answers)
    text = page.read_text()
    assert sorted(path.name for path in page.parent.iterdir()) == sorted(CARD_FILES)
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert not re.search(r"(src|href)\s*=|url\(|@import", text)
    items = {
        item["item"]: item
        for item in json.loads((page.parent / "card.json").read_text())["checklists"]["claim"]["items"]
    }
    assert items["44"]["status"] == "author" and items["20"]["status"] == "filled"  # what was found stays
    assert items["20"]["author"] == "As the split says." and items["20"]["evidence"] == ["slices.csv"]
    assert card_page(card_json(scored)).count("<tr>") == 4 + len(checklist_items())


@pytest.mark.parametrize(
    "content, says",
    [
        ('{"claim:45": "x"}', "claim:4"),
        ('{"claim:3": 3}', "claim:3"),
        ('{"claim:3": " "}', "sentence"),
        ("[]", "object"),
    ],
)
def test_wrong_answers_are_refused_in_a_sentence(tmp_path, content, says):
    (tmp_path / "answers.json").write_text(content)
    with pytest.raises(InputError, match=says):
        read_answers(tmp_path / "answers.json")


def test_croissant_describes_each_column_and_holds_no_patient(scored):
    said = {f"croissant:{name}": f"https://example.org/{name}" for name in ("license", "url", "creator")}
    content = card_json(scored, said | {"croissant:datePublished": "2026-11-30"})
    data, text = content["croissant"], json.dumps(content["croissant"])
    assert data["conformsTo"] == CONFORMS_TO and data["@type"] == "sc:Dataset" and content["gaps"] == []
    assert set(REQUIRED) <= set(data) and set(card_json(scored)["gaps"]) == set(REQUIRED) - {"name", "description"}
    header = (scored.folder / "slices.csv").read_text().splitlines()[0].split(",")
    assert [field["name"] for field in data["recordSet"][1]["field"]] == header
    ids = re.findall(r'"@id": "([^"]+)", "name"', text)
    references = set(re.findall(r'\{"@id": "([^"]+)"\}', text))
    assert len(ids) == len(set(ids)) and references <= set(ids)
    assert not any(patient in text for patient in scored.table.frame["patient"])


def test_the_command_writes_says_and_refuses(scored, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    card_commands.card_arguments(parser)
    card_commands.card(parser.parse_args([str(scored.folder), "--out", str(tmp_path / "out")]))
    words = capsys.readouterr().out
    assert "CLAIM 2024   28 of 41 that apply filled" in words and "Croissant    lacks license" in words
    before = sorted(path.name for path in scored.folder.iterdir())
    card_commands.card(parser.parse_args([str(scored.folder), "--json"]))
    assert json.loads(capsys.readouterr().out)["model"] == "attention"
    assert sorted(path.name for path in scored.folder.iterdir()) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        card_commands.card(parser.parse_args([str(scored.folder), "--out", str(tmp_path / "file")]))


def test_the_command_is_light_until_it_runs():
    code = "import sys, covid_workbench.card_commands; print(any(name in sys.modules for name in ('torch', 'pandas')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


def test_intervals_and_explanations_of_the_run_stand_on_the_card(scored):
    held = scored.metrics["test"]["certainty"]
    low, high = held["detection"]["figures"]["AP@0.5"][1:]
    assert f"({low:.3f} to {high:.3f})" in found(scored, "results").text
    assert held["classification"]["method"] in found(scored, "uncertainty").text
    assert found(scored, "explanation").status == "missing"
    explain_run(scored, slices=2, repeats=20, progress=False)
    told = found(scored, "explanation")
    assert told.files == ("explanation.json",) and explained_of(scored).summary["answers"][0] in told.text
