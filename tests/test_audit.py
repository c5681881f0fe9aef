"""The audit: counts and sources, shortcuts to the class, what comes out in Python, shell, page and run."""

import html
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import covid_workbench as cw
from covid_workbench.data import audit as auditing
from covid_workbench.data import audit_shortcuts, audit_sources, separation
from covid_workbench.data.audit import Audit, audit, judge, notes_of
from covid_workbench.data.description import STANDARD
from covid_workbench.data.findings import RULES, Audited, Finding
from covid_workbench.data.slices import SliceTable
from covid_workbench.reports.audit_page import evidence_html, histogram, sheet_rows, write_audit_page
from covid_workbench.training import train as training

CLASSES = ("Normal", "CP", "COVID-19")


def table_of(patients=15, slices=4, classes=CLASSES, **columns) -> SliceTable:
    "Patients of each class with some slices each; a column may be a function of (class, patient's number, slice)."
    rows = [
        dict(id=f"{label}{n}_{k}", patient=f"{label}{n}", image=f"{label}/{n}/{k}.png", label=label, index=k)
        | {name: value(label, n, k) if callable(value) else value for name, value in columns.items()}
        for label in classes
        for n in range(patients)
        for k in range(slices)
    ]
    return SliceTable(pd.DataFrame(rows), "nowhere")


def facts_of(table: SliceTable, seed=0, **columns) -> pd.DataFrame:
    "What a survey would say of pictures that are all made alike, some grey values by chance; columns as above."
    random, frame = np.random.default_rng(seed), table.frame
    facts = pd.DataFrame(
        {"error": [""] * len(frame), "kind": "PNG", "mode": "L", "width": 512, "height": 512, "bits": 8}
    )
    own = {name: random.normal(250, 2) for name in frame["patient"].unique()}
    facts["grey_high"] = [own[name] + random.normal() for name in frame["patient"]]
    facts["outside"] = [random.normal(100, 9, 256).tolist() for _ in range(len(frame))]
    for name, value in columns.items():
        facts[name] = [value(row["label"], row["patient"], random) for _, row in frame.iterrows()]
    return facts


def asked(name: str, table: SliceTable, facts: pd.DataFrame | None = None, **about) -> list[Finding]:
    return list(RULES[name](Audited(table, facts_of(table) if facts is None else facts, **about)))


def levels(*arguments, **about) -> list[str]:
    return [finding.level for finding in asked(*arguments, **about)]


# ---------------------------------------------------------------- the measure


def test_auc_is_sklearns_with_ties_and_weights():
    random = np.random.default_rng(0)
    truth, scores = random.random(200) < 0.3, random.integers(0, 12, 200) / 12
    weights = random.integers(0, 4, (5, 200))
    assert separation.ranked_auc(truth, scores)[0] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    each = [roc_auc_score(truth, scores, sample_weight=own) for own in weights]
    assert separation.ranked_auc(truth, scores, weights) == pytest.approx(each, abs=1e-12)
    labels, probabilities = random.integers(0, 3, 200), random.dirichlet([1, 1, 1], 200)
    theirs = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert separation.macro_auc(labels, probabilities)[0] == pytest.approx(theirs, abs=1e-12)
    assert np.isnan(separation.ranked_auc(np.ones(5, bool), np.arange(5.0))[0])


def test_interval_draws_patients_and_not_slices():
    random = np.random.default_rng(1)
    labels = np.repeat(random.integers(0, 2, 40), 3)
    scores = labels + random.normal(0, 2, 120)
    both, patients = np.stack([-scores, scores], 1), np.repeat([f"p{n}" for n in range(40)], 3)
    interval = separation.patient_interval(labels, both, patients)
    again = separation.patient_interval(np.tile(labels, 9), np.tile(both, (9, 1)), np.tile(patients, 9))
    assert again == pytest.approx(interval, abs=1e-12)  # more slices of the same people tell nothing new
    drawn = np.random.default_rng(3).integers(40, size=(400, 40)).tolist()
    rows = [np.concatenate([np.arange(3) + 3 * one for one in people]) for people in drawn]
    naive = np.quantile([roc_auc_score(labels[own], scores[own]) for own in rows], [0.025, 0.975])
    assert interval == pytest.approx(naive, abs=0.03)
    assert interval[0] < separation.macro_auc(labels, both)[0] < interval[1]


def test_what_merely_recognises_a_patient_does_not_count():
    random = np.random.default_rng(2)
    patients, labels = np.repeat([f"p{n}" for n in range(60)], 6), np.repeat(random.permutation([0, 1] * 30), 6)
    own = pd.DataFrame({"serial number": np.repeat(random.random(60), 6)})
    forest = RandomForestClassifier(50, random_state=0)
    leaky = cross_val_predict(forest, own, labels, cv=StratifiedKFold(5, shuffle=True), method="predict_proba")
    assert roc_auc_score(labels, leaky[:, 1]) > 0.95
    found = separation.separation(own, labels.astype(str), patients)
    assert found.auc < 0.65 and found.low < 0.5 and found.patients == 60


def test_large_sets_are_sampled_by_patient_and_seed():
    patients = np.repeat([f"p{n}" for n in range(50)], np.arange(1, 51))
    rows = separation.sample_by_patient(patients, 100, seed=4)
    assert len(rows) == 100 == len(set(rows)) and (np.diff(rows) > 0).all()
    assert set(pd.Series(patients[rows]).value_counts()) <= {1, 2, 3} and len(set(patients[rows])) == 50
    assert rows.tolist() == separation.sample_by_patient(patients, 100, seed=4).tolist()
    assert rows.tolist() != separation.sample_by_patient(patients, 100, seed=5).tolist()
    assert separation.sample_by_patient(patients, 10_000).tolist() == list(range(len(patients)))


# ---------------------------------------------------------------- shortcuts

SHORTCUTS = {  # what was planted -> a table, facts, the word that the finding has to name
    "sizes": ({}, {"width": lambda label, _, random: 512 + 60 * (label == "CP") + int(random.integers(40))}, "width"),
    "grey": (
        {},
        {"grey_high": lambda label, _, random: 240 + 6 * (label == "Normal") + random.normal()},
        "brightest grey",
    ),
    "kind": ({}, {"kind": lambda label, _, __: "JPEG" if label == "CP" else "PNG"}, "kind"),
    "mode": ({}, {"mode": lambda label, _, __: "RGB" if label == "CP" else "L"}, "mode RGB"),
    "missing spacing": ({}, {"spacing": lambda label, *_: np.nan if label == "CP" else 0.7}, "pixel spacing"),
    "source": ({"source": lambda label, *_: "A" if label == "CP" else "B"}, {}, "source"),
    "relative position": (
        {"index": lambda label, _, k: 10 * k if label == "Normal" else 14 + 2 * k},
        {},
        "first slice",
    ),
    "box": ({"crop": lambda label, *_: f"{0 if label == 'CP' else 9} 0 99 99"}, {}, "box x0"),
}


@pytest.mark.parametrize("planted", SHORTCUTS)
def test_a_class_that_metadata_tell_is_red_and_the_shortcut_is_named(planted):
    columns, facts, word = SHORTCUTS[planted]
    table = table_of(**columns)
    (finding,) = asked("class-from-metadata", table, facts_of(table, **facts))
    figures = dict(finding.figures)
    assert finding.level == "error" and word in finding.what and finding.mend
    assert (
        figures["auc"] > 0.7 and 0.5 < figures["low"] <= figures["auc"] <= figures["high"] and figures["patients"] == 45
    )
    assert {place["label"] for place in finding.evidence} == set(CLASSES)


def test_a_list_without_pictures_is_judged_by_position():
    "As in COVIDx-CT: all slices of the healthy, the lesion slices of the ill; nothing is known of any picture."
    spans = {"Normal": (0, 100), "CP": (30, 60), "COVID-19": (40, 80)}
    table = table_of(slices=8, index=lambda label, n, k: int(np.linspace(*spans[label], 8)[k]) + n % 5)
    (finding,) = asked("class-from-metadata", table, pd.DataFrame({"error": [""] * len(table)}))
    assert finding.level == "error" and "slice" in finding.what
    same = table_of(slices=8, index=lambda _, n, k: 10 * k + n % 5)
    (quiet,) = asked("class-from-metadata", same, pd.DataFrame({"error": [""] * len(same)}))
    assert quiet.level == "note"


def test_shortcuts_are_quiet_where_nothing_tells_the_class():
    table = table_of(20)
    for name in ("class-from-metadata", "class-from-outside"):
        (finding,) = asked(name, table)
        assert finding.level == "note" and "No sign" in finding.what and dict(finding.figures)["low"] < 0.55


def test_what_surrounds_the_lungs_tells_the_class():
    def marked(label, _, random):
        picture = random.normal(100, 9, 256)
        picture[:3] += 40 * (label == "COVID-19")
        return picture.tolist()

    table = table_of()
    (finding,) = asked("class-from-outside", table, facts_of(table, outside=marked))
    assert finding.level == "error" and "upper left" in finding.what
    assert not asked("class-from-outside", table, pd.DataFrame({"outside": [[]] * len(table)}))
    part = facts_of(table, outside=marked)
    part["outside"] = [[] if row % 9 == 0 else one for row, one in enumerate(part["outside"])]
    (finding,) = asked("class-from-outside", table, part)
    assert finding.level == "error" and dict(finding.figures)["slices"] < len(table)


def test_file_sizes_are_asked_of_the_disk(tmp_path):
    table = table_of(16, 2)
    for row, (image, label) in enumerate(zip(table.frame["image"], table.frame["label"])):
        path = tmp_path / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (1000 + 7 * row % 100 + 300 * (label == "CP")))
    there = SliceTable(table.frame, tmp_path)
    (finding,) = asked("class-from-metadata", there)
    assert finding.level == "error" and "file size (CP" in finding.what


def test_too_few_patients_are_said_and_not_judged():
    table = table_of(9, classes=("Normal", "CP"))
    (finding,) = asked("class-from-metadata", table, facts_of(table, width=lambda label, *_: len(label)))
    assert finding.level == "note" and "15 patients in each of two classes" in finding.what and "CP 9" in finding.what
    (one,) = asked("class-from-metadata", table_of(30, classes=("CP",)))
    assert one.level == "note" and "two classes" in one.what
    alike = table_of(16, 1, index=0)
    (finding,) = asked("class-from-metadata", alike, facts_of(alike, grey_high=lambda *_: 250))
    assert finding.level == "note" and "alike" in finding.what
    few = table_of(16).frame
    few = SliceTable(few[(few["label"] != "CP") | few["patient"].isin(["CP0", "CP1"])], "nowhere")
    (finding,) = asked("class-from-metadata", few)  # the class with too few patients is left out of the trial
    assert "(COVID-19, Normal)" in finding.what


def test_unknown_patients_get_no_interval():
    table = table_of(20, 2, patient_unknown=True)
    (finding,) = asked("class-from-metadata", table, facts_of(table, width=lambda label, *_: len(label)))
    assert finding.level == "error" and set(dict(finding.figures)) == {"auc", "patients", "slices"}
    assert "95 %" not in finding.what and "unknown" in finding.what


def test_the_same_seed_gives_the_same_numbers_and_samples_are_said(monkeypatch):
    table = table_of(16)
    facts = facts_of(table, width=lambda label, _, random: 500 + int(9 * (label == "CP") + random.normal(0, 6)))
    first, second, other = (asked("class-from-metadata", table, facts, seed=seed) for seed in (3, 3, 4))
    assert first == second != other
    monkeypatch.setattr(audit_shortcuts, "SHORT_SLICES", 90)
    (short,) = asked("class-from-metadata", table, facts, whole=False)
    assert "90 of 192 slices" in short.what and dict(short.figures)["slices"] == 90


# ---------------------------------------------------------------- counts and sources


def test_counts_are_in_slices_and_in_patients():
    table = table_of(
        3, 5, split=lambda _, n, __: ("train", "train", "test")[n], mask=lambda label, *_: "m.png" * (label == "CP")
    )
    held = audit_sources.count_slices(table).set_index(["source", "split", "class"])
    assert held.loc[("-", "train", "CP")].to_dict() == {"slices": 10, "masks": 10, "patients": 2, "unknown": 0}
    assert held.loc[("-", "test", "Normal")].to_dict() == {"slices": 5, "masks": 0, "patients": 1, "unknown": 0}
    assert held["slices"].sum() == 45
    (finding,) = asked("counts", table)
    assert (
        finding.level == "note"
        and "45 slices of 9 patients" in finding.what
        and "CP 15 slices of 3 patients" in finding.what
    )


def test_unknown_patients_are_not_counted_as_patients():
    held = audit_sources.count_slices(table_of(2, patient_unknown=True))
    assert held["patients"].sum() == 0 and held["unknown"].sum() == 24  # an invented name is no patient
    (counted,) = asked("counts", table_of(2, patient_unknown=True))
    assert "24 slices of unknown patients" in counted.what


def test_a_class_with_a_source_of_its_own():
    (finding,) = asked("class-is-source", table_of(2, source=lambda label, *_: "Wuhan" if label == "CP" else "Iran"))
    assert finding.level == "error" and "CP" in finding.what and "Wuhan" in finding.what and finding.count == 8
    assert levels("class-is-source", table_of(2, source=lambda _, n, __: f"S{n}")) == []
    assert levels("class-is-source", table_of(2)) == []
    mixed = table_of(2, source=lambda label, n, __: "Wuhan" if label == "CP" or n else "Iran")
    assert levels("class-is-source", mixed) == []


MEASURED = dict(
    grey_low=30, grey_high=40, hu_low=200, hu_high=900, window_low=200, window_high=400, spacing=0.3, width=300
)


@pytest.mark.parametrize("column", MEASURED)
def test_a_class_or_source_that_is_made_otherwise(column):
    shift, usual = MEASURED[column], {"spacing": 0.7, "width": 512}.get(column, 100)
    table = table_of(24, 2, source=lambda _, n, __: f"S{n % 2}")

    def by_class(label, _, random):
        return usual + shift * (label == "CP") + 0.1 * shift * random.normal()

    def by_source(_, patient, random):
        return usual + shift * int(patient[-1] in "13579") + 0.1 * shift * random.normal()

    (finding,) = asked("differs-by-class", table, facts_of(table, **{column: by_class}))
    assert finding.level == "warning" and "CP " in finding.what and finding.count == 48
    assert "against" in finding.what and re.search(r"\d", finding.what)
    (finding,) = asked("differs-by-source", table, facts_of(table, **{column: by_source}))
    assert finding.level == "warning" and "S1 " in finding.what
    chance = facts_of(table, **{column: lambda *about: abs(usual + shift * about[-1].normal())})
    assert levels("differs-by-class", table, chance) == levels("differs-by-source", table, chance) == []


def test_a_few_patients_with_one_size_each_are_enough_and_others_are_not():
    table = table_of(3, 2)
    fixed = facts_of(table, width=lambda label, *_: 630 if label == "CP" else 512)
    assert levels("differs-by-class", table, fixed) == ["warning"]
    spread = facts_of(table, grey_low=lambda label, _, random: 40 * (label == "CP") + random.normal())
    assert levels("differs-by-class", table, spread) == []


# ---------------------------------------------------------------- what comes out


def test_a_clean_phantom_is_quiet_and_the_audit_says_so(phantom):
    found = audit(SliceTable.from_csv(phantom / "slices.csv"), min_area=6, progress=False)
    assert found.clean and "\n" not in found.summary() and "30 slices of 15 patients" in found.summary()
    held = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert held["patients"] == 15 and held["findings"][0]["level"] == "note" and held["versions"]["covid_workbench"]
    assert set(held["rules"]) == set(RULES) and held["summary"] in repr(found) and "<table" in found._repr_html_()
    short = audit(SliceTable.from_csv(phantom / "slices.csv"), whole=False, facts=found.facts)
    assert set(short.rules) < set(RULES) and "class-from-outside" not in short.rules


def test_a_rule_that_fails_is_a_finding_and_the_gravest_come_first(monkeypatch):
    def broken(audited):
        yield Finding("note", "x", "a")
        raise ZeroDivisionError("by <zero>\n")

    broken.short = True
    monkeypatch.setattr(auditing, "RULES", {"x": broken, "y": lambda audited: iter([Finding("error", "y", "b")])})
    auditing.RULES["y"].short = False
    table = table_of(1, 1)
    assert [(one.level, one.rule) for one in judge(Audited(table, facts_of(table)))] == [
        ("error", "y"),
        ("warning", "x"),
    ]
    (alone,) = judge(Audited(table, facts_of(table), whole=False))
    assert "could not judge: ZeroDivisionError" in alone.what and "\n" not in alone.what


def test_json_holds_nothing_that_json_does_not_know():
    about = {
        "slice": "s",
        "value": np.float64("nan"),
        "other": np.int64(3),
        "seen": np.bool_(True),
        "path": ("a", b"b"),
    }
    finding = Finding("note", "x", "y", evidence=(about,), figures=(("auc", float("inf")),))
    held = Audit((finding,), table_of(1, 1), pd.DataFrame(), ("x",), {}).as_json()
    place = json.loads(json.dumps(held, allow_nan=False))["findings"][0]
    assert place["evidence"] == [{"slice": "s", "value": None, "other": 3, "seen": True, "path": ["a", "b'b'"]}]
    assert place["figures"] == {"auc": None}


def test_notes_for_a_run_are_few_and_short():
    wrong = [Finding("error", "x", f"fault {n}. " + "y" * 900) for n in range(4)] + [Finding("warning", "x", "w")] * 3
    notes = notes_of([*wrong, Finding("note", "x", "z")])
    assert len(notes) == 6 and "2 more findings" in notes[-1] and "data check" in notes[-1]
    assert all(note.startswith("Audit: ") and len(note) < 400 for note in notes)
    assert (
        notes_of([Finding("note", "x", "z"), Finding("error", "patient-in-two-splits", "said by the run itself")]) == []
    )


def tied(phantom, tmp_path):
    "The phantom with the ill from another source than the healthy."
    folder = tmp_path / "tied"
    shutil.copytree(phantom, folder)
    frame = pd.read_csv(folder / "slices.csv", keep_default_na=False)
    frame.assign(source=frame["label"].map({"CP": "other"}).fillna("phantom")).to_csv(
        folder / "slices.csv", index=False
    )
    return folder


def test_the_command_says_it_by_its_exit_code(command, phantom, tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_WORKBENCH_CACHE", str(tmp_path / "cache"))
    code, out, _ = command("data", "check", phantom)
    assert code == 0 and "NOTE    counts" in out and re.search(r"phantom +- +Normal +\d+ +\d+ +5\n", out)
    assert max(map(len, out.splitlines())) <= 100
    wrong, page = tied(phantom, tmp_path), tmp_path / "audit.html"
    code, out, _ = command("data", "check", wrong, "--html", page, "--short")
    assert code == 1 and "ERROR   class-is-source" in out and "class-from-outside" not in out and page.is_file()
    code, out, _ = command("data", "check", wrong, "--json")
    held = json.loads(out)
    assert code == 1 and held["findings"][0]["rule"] == "class-is-source" and held["counts"]
    code, out, error = command("data", "check", tmp_path / "nowhere")
    assert code == 2 and out == "" and "no such data folder" in error and "data check" in error
    assert command("data", "check", phantom, "--min-area", "-1")[0] == command("data")[0] == 2
    code, _, error = command("data", "check", phantom, "--html", tmp_path)
    assert code in (1, 2) and "Traceback" not in error


def test_folders_or_a_table_are_checked_from_python(phantom, tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_WORKBENCH_CACHE", str(tmp_path / "cache"))
    table = cw.open_slices(phantom)
    rules = [cw.check_data(data, progress=False).rules for data in (phantom, [phantom], table)]
    assert rules[0] == rules[1] == rules[2] and (tmp_path / "cache" / "survey.sqlite").is_file()
    with pytest.raises(cw.InputError, match="no such data folder"):
        cw.check_data(tmp_path / "nowhere")


# ---------------------------------------------------------------- the page


def test_the_page_is_escaped_offline_and_shows_twins_beside_each_other(phantom, tmp_path):
    found = audit(SliceTable.from_csv(phantom / "slices.csv"), progress=False)
    one, two, *_ = found.table.frame["id"]
    evil = "<script>alert(1)</script>"
    twins = Finding("error", "twins", evil, evil, ({"slice": one, "patient": evil, "other": two},), 7, (("auc", 0.9),))
    held = STANDARD.replace(classes=("Normal", "CP", "COVID-19", "<b>"), name=evil)
    table = found.table.described(held).with_rows(found.table.frame.assign(source=evil))
    shown = Audit((twins, *found.findings), table, found.facts, found.rules, {"x": "1"})
    page = write_audit_page(shown, tmp_path / "audit.html").read_text()
    assert "<script" not in page and html.escape(evil) in page and "Research software, not a medical device." in page
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "http" not in page and "1 of 7 places shown" in page
    side = re.search(r'<div class="twins"><div>(.*?)</div>', page)[1]
    assert side.count("<img") == 2 and one in side and two in side
    assert "prefers-color-scheme:dark" in page and "mean grey by class" in page
    assert all(f"<h3>{name}</h3>" in page for name in ("no label", "Normal", "CP", "COVID-19"))


def test_a_page_of_slices_that_cannot_be_read(tmp_path):
    table = table_of(1, 2, classes=("Normal", "CP"))
    found = audit(table, progress=False)
    page = write_audit_page(found, tmp_path / "audit.html").read_text()
    assert "no picture" in page and "nowhere" in page
    assert "no picture" in evidence_html(Finding("note", "x", "y", evidence=({"slice": "s"},)), {})


def test_a_sheet_has_many_patients_and_masks_first():
    table = table_of(20, 5, mask=lambda _, __, k: "m.png" * (k == 3))
    rows = sheet_rows(table)
    for label in CLASSES:
        part = table.frame.iloc[rows[label]]
        assert len(part) == 8 == part["patient"].nunique() and set(part["label"]) == {label}
    one = table_of(1, 30, mask=lambda _, __, k: "m.png" * (k in (7, 8)))
    assert rows == sheet_rows(table) and {7, 8} <= set(one.frame.iloc[sheet_rows(one)["CP"]]["index"])


def test_a_histogram_knows_when_there_is_nothing_to_draw():
    labels = pd.Series(["A", "B"] * 10)
    drawn = histogram(pd.Series(np.arange(20.0)), labels, {"A": "#111111", "B": "#222222"}, "size <1>")
    assert drawn.count('stroke="#') == 2 and "size &lt;1&gt;" in drawn and ">19<" in drawn
    for values in (np.zeros(20), np.full(20, np.nan), np.full(20, np.inf)):
        assert histogram(pd.Series(values), labels, {"A": "#111111"}, "x") == ""
    assert histogram(pd.Series([1.0, np.nan, 3.0]), pd.Series(["A", "A", "A"]), {"A": "#111111"}, "x") != ""


# ---------------------------------------------------------------- at the start of a training


def test_a_training_notes_what_is_wrong_once_and_its_weights_do_not_change(phantom, tmp_path, monkeypatch, capsys):
    settings = dict(source=str(tied(phantom, tmp_path)), model="classifier", epochs=0.1, classification_batch=4)
    run = training.train(tiny(**settings), tmp_path / "audited" / "run", progress=True)
    said = capsys.readouterr().out
    assert len(run.notes) >= 2 and all(note.startswith("Audit: ") for note in run.notes)
    assert "Class CP" in run.notes[0] and said.count("Class CP") == 1
    monkeypatch.setattr(training, "short_audit", lambda *_, **__: [])
    plain = training.train(tiny(**settings), tmp_path / "plain" / "run", progress=False)
    assert plain.notes == []
    weights = [(one.folder / "weights.safetensors").read_bytes() for one in (run, plain)]
    assert weights[0] == weights[1]
    training.train(tiny(**settings), run.folder, resume=True, progress=True)
    assert "Audit" not in capsys.readouterr().out
    table = SliceTable.from_csv(phantom / "slices.csv")
    facts = auditing.survey(table, objects=STANDARD.objects["merged"], progress=False)
    assert auditing.short_audit(table, facts, min_area=6) == []
