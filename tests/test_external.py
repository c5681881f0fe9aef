"""A run scored on other data: the same figures, kept apart, resumed after a kill, and honest about who was seen."""

import json
import shutil

import pytest

from covid_workbench.api import open_run
from covid_workbench.data.description import STANDARD
from covid_workbench.data.phantom import PhantomSettings, write_phantom
from covid_workbench.data.slices import SPLITS, SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation import external, scored_parts
from covid_workbench.evaluation.external import PART, evaluate_on
from covid_workbench.reports.card import card_json
from covid_workbench.reports.scores_page import write_scores
from covid_workbench.runs.external import DATA, EXTERNAL, as_trained, external_answers, seen_before, seen_words


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    "Slices of another hospital."
    folder = tmp_path_factory.mktemp("elsewhere") / "hospital-b"
    write_phantom(folder, 10, seed=7, settings=PhantomSettings(size=64, slices=2), progress=False)
    return SliceTable.from_csv(folder / "slices.csv")


def test_on_its_own_test_slices_the_figures_are_those_of_evaluate(scored):
    own = scored.table.split("test")
    answers = evaluate_on(scored, own, "again", progress=False)
    found, wanted = answers.metrics[EXTERNAL], scored.metrics["test"]
    assert found == wanted
    rows, before = answers.predictions, scored.predictions.query("split == 'test'").reset_index(drop=True)
    assert rows.drop(columns="split").equals(before.drop(columns="split"))
    seen = answers.about["seen"]
    assert seen["patients"] == dict.fromkeys(SPLITS, 0) | {"test": seen["named"]}


def test_answers_are_kept_apart_and_found_again(scored, elsewhere):
    before = {path.name: path.read_bytes() for path in scored.folder.iterdir() if path.is_file()}
    answers = evaluate_on(scored, elsewhere, progress=False)
    assert {path.name: path.read_bytes() for path in scored.folder.iterdir() if path.is_file()} == before
    assert [own.folder for own in external_answers(scored)] == [scored.folder / EXTERNAL / "hospital-b"]
    assert answers.table.frame["id"].tolist() == elsewhere.frame["id"].tolist()
    assert "hospital-b" in answers.notes[-2] or any("hospital-b" in note for note in answers.notes)
    with pytest.raises(InputError, match="--name"):
        evaluate_on(scored, elsewhere.where(elsewhere.frame.index < 5), progress=False)
    assert answers.metrics[EXTERNAL]["slices"] == 20


def test_a_killed_call_goes_on_and_ends_in_the_same_files(scored, elsewhere, monkeypatch):
    monkeypatch.setattr(scored_parts, "parts_of", lambda count: [range(0, 7), range(7, 14), range(14, count)])
    whole = evaluate_on(scored, elsewhere, "whole", progress=False)
    real, calls = scored_parts.score_slices, []

    def killed(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(scored_parts, "score_slices", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_on(scored, elsewhere, "killed", progress=False)
    folder = scored.folder / EXTERNAL / "killed"
    with (folder / PART).open("a") as file:
        file.write('{"part": 2, "answers": [')  # the line at which it was killed
    assert len(external_answers(scored)) == 1
    calls += [1, 1]
    again = evaluate_on(scored, elsewhere, "killed", progress=False)
    assert len(calls) == 6  # the last part alone was answered
    for name in ("predictions.csv", "lesions.npz", "slices.csv"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert again.metrics[EXTERNAL] == whole.metrics[EXTERNAL]


def test_parts_of_other_weights_do_not_count(scored, elsewhere, monkeypatch):
    key = {"weights": "these"}
    path = scored.folder / "lines"
    external._write_lines(path, key, [{"part": 0}, {"part": 1}])
    assert len(external._lines(path, key)) == 2 and external._lines(path, {"weights": "others"}) == []


def test_classes_and_mask_values_that_the_run_does_not_know_are_refused(scored, elsewhere):
    about = STANDARD.replace(classes=("Normal", "CP", "COVID-19", "Tumour"))
    frame = elsewhere.frame.assign(label=["Tumour"] * 3 + elsewhere.frame["label"].tolist()[3:])
    other = SliceTable(frame, elsewhere.roots, "tumours", about)
    with pytest.raises(InputError, match=r"tumours: slice .* is labelled Tumour.*3 such slices"):
        evaluate_on(scored, other, progress=False)
    values = {0: "background", 1: "lung", 2: "cavity", 3: "consolidation"}
    swapped = elsewhere.described(STANDARD.replace(mask_names=values, objects={}))
    with pytest.raises(InputError, match="mask value 2 is cavity"):
        evaluate_on(scored, swapped, progress=False)
    bare = elsewhere.with_rows(elsewhere.frame.assign(label="", mask=""))
    with pytest.raises(InputError, match="no label or lesion mask|no slice has a label"):
        evaluate_on(scored, bare, progress=False)
    assert not (scored.folder / EXTERNAL).exists()


def test_the_run_says_which_patients_and_pictures_it_has_seen(finished, elsewhere, tmp_path):
    own = finished.table
    assert (finished.folder.parent / "shared" / "survey.sqlite").exists()
    seen = seen_before(finished, own.split("train"), progress=False)
    count = len(own.split("train"))
    assert seen["pictures"]["train"] == seen["compared"] == count and seen["pictures"]["test"] == 0
    assert "flatter" in seen_words(seen)[-1]
    new = seen_before(finished, as_trained(finished, elsewhere), progress=False)
    assert new["pictures"] == dict.fromkeys(SPLITS, 0) and new["compared"] == len(elsewhere)
    renamed = own.split("train")  # other names, other files, the same pictures
    shutil.copytree(own.root, tmp_path / "copy")
    frame = renamed.frame.assign(patient="x" + renamed.frame["patient"], id="y" + renamed.frame["id"])
    copied = SliceTable(frame, tmp_path / "copy", "copy")
    seen = seen_before(finished, copied, progress=False)
    assert seen["patients"]["train"] == 0 and seen["pictures"]["train"] == count


def test_a_damaged_folder_is_named(scored, elsewhere):
    answers = evaluate_on(scored, elsewhere, progress=False)
    about = json.loads((answers.folder / DATA).read_text())
    (answers.folder / DATA).write_text(json.dumps(about | {"seen": 3}))
    with pytest.raises(InputError, match="data.json: field 'seen'"):
        answers.about  # noqa: B018


def test_the_command_scores_elsewhere_and_the_pages_say_so(scored, elsewhere, command):
    code, out, _ = command("evaluate", scored.folder, "--data", elsewhere.root, "--device", "cpu")
    assert code == 0 and "its own test set" in out and "hospital-b" in out
    assert "trained the run" in out and "Pictures were not compared" in out  # no survey beside this copy
    own = scored.folder / EXTERNAL / "hospital-b"
    assert "How sure the figures are" in (own / "scores-external.html").read_text()
    page = write_scores(scored).read_text()
    assert "On other data: hospital-b" in page and 'href="external/hospital-b/scores-external.html"' in page
    assert page.index("How sure the figures are") < page.index("On other data: hospital-b")
    items = card_json(scored)["checklists"]["claim"]["items"]
    item = next(item for item in items if item["item"] == "33")
    assert item["status"] == "filled" and "Scored on other data, hospital-b, 20 slices" in item["text"]
    assert item["evidence"] == ["external/hospital-b/metrics.json"]
    code, out, _ = command("evaluate", scored.folder, "--data", elsewhere.root, "--json", "--name", "b2")
    assert code == 0 and json.loads(out)[EXTERNAL]["slices"] == 20 and len(external_answers(scored)) == 2
    code, _, said = command("evaluate", scored.folder, "--name", "b")
    assert code == 2 and "--data" in said


def test_the_front_door_takes_folders_and_tables(scored, elsewhere):
    run = open_run(scored.folder)
    metrics = run.evaluate(data=elsewhere.root, progress=False)
    assert run.evaluate(data=elsewhere, name="table", progress=False)[EXTERNAL] == metrics[EXTERNAL]
