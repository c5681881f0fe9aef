"""Selections: marked slices kept beside a run, that nobody loses and that predict, page and Python take."""

import json
import multiprocessing
import re

import pytest

from covid_workbench.errors import InputError, StorageError
from covid_workbench.reports.answer_files import write_answers
from covid_workbench.runs.selections import (
    SELECTIONS,
    Selection,
    read_selection,
    save_selection,
    selection_named,
    selections_of,
)
from covid_workbench.widgets.explorer import AttentionExplorer


def test_a_selection_comes_back_as_it_was_kept(tmp_path):
    kept = save_selection(tmp_path, Selection(" Rand der Lunge ", ("b", "a", "b"), "β > 8", data="phantom"))
    assert kept.name == "Rand der Lunge" and kept.slices == ("b", "a") and kept.saved
    assert selections_of(tmp_path) == {"Rand der Lunge": kept}
    path = tmp_path / SELECTIONS / kept.file_name
    assert selection_named(tmp_path, path) == read_selection(path) == kept
    with pytest.raises(InputError, match="no selection 'Rand der Lungen'; did you mean 'Rand der Lunge'"):
        selection_named(tmp_path, "Rand der Lungen")
    with pytest.raises(InputError, match="mark slices in the explorer"):
        selection_named(tmp_path / "other", "Rand")


@pytest.mark.parametrize(
    "text, word",
    [
        ('{"name": "x", "slices": "all"}', "field 'slices' must be a list, not 'all'"),
        ('{"name": "x", "slices": ["a", 3]}', r"field 'slices\[1\]' must be text"),
        ('{"slices": []}', "field 'name' is missing"),
        ('{"name": "", "slices": []}', "names no selection"),
        ('{"name": "a\\u0000", "slices": []}', "not usable JSON"),
        ('{"name": ', "not valid JSON"),
        ("[1]", "expected an object"),
    ],
)
def test_a_file_that_is_no_selection_is_named_and_hides_no_other(tmp_path, text, word):
    kept = save_selection(tmp_path, Selection("good", ("a",)))
    (tmp_path / SELECTIONS / "bad.json").write_text(text)
    found = selections_of(tmp_path)
    assert found == {"good": kept} and len(found.unreadable) == 1
    assert "bad.json" in found.unreadable[0] and re.search(word, found.unreadable[0])


@pytest.mark.parametrize("name", ["", " ", "x" * 81, "a\nb", "a\x00"])
def test_a_name_is_a_line_of_letters(name):
    with pytest.raises(InputError, match="names no selection"):
        Selection(name, ("a",))


def test_a_name_may_hold_what_no_file_name_may(tmp_path):
    names = ["../../out", "con", "a/b", ".hidden", "ß*?"]
    for name in names:
        save_selection(tmp_path, Selection(name, ("a",)))
    assert sorted(selections_of(tmp_path)) == sorted(names)
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / SELECTIONS}


def _save(folder, number, names, results):
    for name in names:
        try:
            save_selection(folder, Selection(name, (f"slice {number}",)))
            results.put((name, number))
        except InputError:
            results.put((name, None))


def test_readers_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    results, names = context.Queue(), [f"common {number}" for number in range(6)]
    readers = [context.Process(target=_save, args=(tmp_path, own, [*names, f"own {own}"], results)) for own in range(4)]
    for one in readers:
        one.start()
    told = [results.get(timeout=60) for _ in range(4 * 7)]
    for one in readers:
        one.join()
    found = selections_of(tmp_path)
    assert len(found) == 6 + 4 and not found.unreadable
    for name in found:
        winners = [number for own, number in told if own == name and number is not None]
        assert len(winners) == 1 and found[name].slices == (f"slice {winners[0]}",)  # who was told so, and nobody else


def test_a_selection_is_changed_only_by_who_opened_it_as_it_is(tmp_path):
    first = save_selection(tmp_path, Selection("x", ("a",)))
    with pytest.raises(InputError, match="there is a selection 'x' of 1 slice already"):
        save_selection(tmp_path, Selection("X", ("b",)))
    second = save_selection(tmp_path, Selection("x", ("a", "b")), before=first)
    with pytest.raises(InputError, match="of 2 slices already"):
        save_selection(tmp_path, Selection("x", ("a", "c")), before=first)  # opened before the change
    assert selections_of(tmp_path) == {"x": second}
    with pytest.raises(InputError, match="has no slices"):
        save_selection(tmp_path, Selection("y", ()))


def test_a_table_has_the_slices_that_are_there(finished):
    table, ids = finished.table, list(finished.table.frame["id"])
    part = Selection("x", (ids[5], "gone", ids[1])).table(table)
    assert list(part.frame["id"]) == [ids[1], ids[5]]
    assert "1 of the 3 slices of selection 'x' are not here: gone." in part.notes
    assert not any("selection" in note for note in Selection("x", (ids[0],)).table(table).notes)
    with pytest.raises(InputError, match="none of its 2 slices is in"):
        Selection("x", ("no", "nor")).table(table)


def test_marks_are_kept_and_come_back_with_the_view(scored):
    explorer = AttentionExplorer(scored)
    ids = list(explorer.rows)
    older = {name: value for name, value in explorer.state.items() if name != "marked"}
    explorer.browser.marked = [ids[2], ids[0]]
    explorer.keep("to discuss", "why")
    explorer.browser.filter = {"kind": "all", "among": "in:to discuss"}
    assert json.loads(explorer.header.state_text) == explorer.state  # what a link copies
    held = explorer.state

    other = AttentionExplorer(scored, state=held)
    assert other.browser.marked == [ids[2], ids[0]] and other.browser.filter["among"] == "in:to discuss"
    assert other.browser.selections == [{"name": "to discuss", "note": "why", "slices": [ids[2], ids[0]], "gone": 0}]
    other.reopen(older)
    assert other.browser.marked == []

    other.state = held
    for wrong, word in ({"marked": ["gone"]}, "marked 'gone'"), ({"filter": {"among": "in:lost"}}, "selection 'lost'"):
        with pytest.raises(InputError, match=word):
            other.reopen(held | wrong)
        assert other.state == held


def heard(explorer, content):
    "What the page is told when it sends `content` about marks."
    told = []
    explorer.browser.send = lambda message, *_: told.append(message)
    explorer.header.send = lambda message, *_: told.append(message)
    explorer._on_marks(None, content, None)
    return told


def test_a_changed_selection_keeps_its_slices_of_other_data(scored):
    explorer, other = AttentionExplorer(scored), AttentionExplorer(scored)
    ids = list(explorer.rows)
    save_selection(scored, Selection("both", (ids[0], "elsewhere"), "note"))
    assert heard(explorer, {"look": True}) == [] and explorer.browser.selections[0]["gone"] == 1
    assert heard(explorer, {"change": "both"}) == [{"fields": {"name": "both", "note": "note"}, "marks": ""}]
    keep = {"name": "both", "note": "more", "slices": [ids[0], ids[1]]}
    assert heard(explorer, {"keep": keep}) == [{"marks": "3 slices kept as both."}]
    assert selections_of(scored)["both"].slices == (ids[0], ids[1], "elsewhere")
    said = heard(other, {"keep": keep})  # a reader who has not opened it
    assert len(said) == 1 and "already" in said[0]["marks"] and selections_of(scored)["both"].note == "more"


def test_a_run_that_cannot_be_written_offers_a_download(scored, tmp_path):
    (scored.folder / SELECTIONS).write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written, selection 'x' is not kept"):
        save_selection(scored, Selection("x", ("a",)))
    explorer = AttentionExplorer(scored)
    slices = list(explorer.rows)[:1]
    download, said = heard(explorer, {"keep": {"name": "X", "note": "n", "slices": slices}})
    assert download["save"] == "x.json" and "cannot be written" in said["marks"]
    (tmp_path / "x.json").write_text(download["text"])
    again = selection_named(scored, tmp_path / "x.json")
    assert again.name == "X" and again.note == "n" and list(again.slices) == slices


def test_predict_answers_the_slices_of_a_selection(scored, tmp_path):
    frame = scored.table.frame
    slices = tuple(frame.loc[frame["split"] != "test", "id"][:2])
    chosen = Selection("two", (*slices, "gone"))
    done = write_answers(scored, [], tmp_path / "own", device="cpu", selection=chosen)
    assert {entry["id"] for entry in done.entries} == set(slices)
    assert any("1 of the 3 slices" in note for note in done.notes)
    assert done.volumes == [] and not any("olume" in note for note in done.notes)  # marked slices are no volumes
    with pytest.raises(InputError, match="rule mean: slices of a selection are answered one by one; leave it out"):
        write_answers(scored, [], tmp_path / "joined", device="cpu", selection=chosen, rule="mean")
    assert not (tmp_path / "joined").exists()
    files = [scored.table.roots[0]]
    done = write_answers(scored, files, tmp_path / "files", device="cpu", selection=chosen)
    assert {entry["id"] for entry in done.entries} == set(slices)


def test_the_command_predict_takes_a_selection_instead_of_files(scored, command, tmp_path):
    slices = tuple(scored.table.frame["id"][:2])
    save_selection(scored, Selection("two", slices))
    code, _, _ = command("predict", scored.folder, "--selection", "two", "--out", tmp_path / "out")
    held = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert code == 0 and {entry["id"] for entry in held["slices"]} == set(slices)
    code, _, error = command("predict", scored.folder, "--out", tmp_path / "none")
    assert code == 2 and "--selection" in error and not (tmp_path / "none").exists()


def test_a_page_holds_the_slices_of_a_selection(scored, command, tmp_path):
    frame = scored.table.frame
    train, test = frame.loc[frame["split"] == "train", "id"].iloc[0], frame.loc[frame["split"] == "test", "id"].iloc[0]
    save_selection(scored, Selection("for you", (test, "gone", train)))
    code, said, _ = command("page", scored.folder, "--selection", "for you", "--out", tmp_path / "page.html")
    assert code == 0 and "Note: 1 of the 3 slices of selection 'for you' are not here: gone." in said
    assert re.findall(r"^for you: (\S+)\. ", said, re.MULTILINE) == [test, train]
    text = (tmp_path / "page.html").read_text()
    told = json.loads(re.search(r'id="told">(.*?)</script>', text, re.DOTALL)[1])
    assert [(one["name"], one["group"]) for one in told["slices"]] == [(test, "for you"), (train, "for you")]
    code, _, error = command("page", scored.folder, "--selection", "for me")
    assert code == 2 and "did you mean 'for you'?" in error
