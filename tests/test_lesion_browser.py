"""The lesion browser: matching, what is counted, the volume, states, and what is said when something is missing."""

import asyncio
import json
import shutil
import subprocess

import numpy as np
import pytest
from conftest import tiny

from covid_workbench.data.description import CONSOLIDATION, GROUND_GLASS, LUNG, OBJECT_CLASSES
from covid_workbench.data.slices import Slice, SliceTable
from covid_workbench.errors import InputError
from covid_workbench.evaluation.detection import CocoScorer, Detections, greedy_matches
from covid_workbench.runs.run import Run
from covid_workbench.training.train import train
from covid_workbench.widgets.lesion_matching import (
    HIDDEN,
    lesion_labels,
    match_lesions,
    readings_of,
    slice_entry,
    slice_outcome,
    volume_outcome,
)
from covid_workbench.widgets.lesion_reader import LesionReader, volumes_of
from covid_workbench.widgets.lesions import LESION_STATE, LesionBrowser
from covid_workbench.widgets.parts import script_of


def random_slice(random: np.random.Generator, objects, side: int = 48) -> tuple[Slice, Detections]:
    "Rectangles as lesions, moved rectangles as predictions."
    mask, masks, labels = np.zeros((side, side), np.uint8), [], []
    mask[4:-4, 4:-4] = LUNG
    for _ in range(random.integers(0, 5)):
        x, y, w, h = *random.integers(2, side - 20, 2), *random.integers(4, 16, 2)
        mask[y : y + h, x : x + w] = random.choice([GROUND_GLASS, CONSOLIDATION])
        dx, dy = random.integers(-2, 3, 2)
        for _ in range(random.integers(0, 3)):
            masks.append(np.zeros((side, side), bool))
            masks[-1][y + dy : y + h, x + dx : x + w] = True
            labels.append(random.integers(1, len(objects) + 1))
    n = len(masks)
    scores = random.choice([0.1, 0.3, 0.5, 0.5, 0.8], n) if n else np.zeros(0)  # with ties
    return (
        Slice("s", "p", "1", 0, np.full((side, side), 60, np.uint8), mask=mask),
        Detections(
            np.tile([1.0, 1, 5, 5], (n, 1)).reshape(n, 4), labels, scores, np.array(masks, bool).reshape(n, side, side)
        ),
    )


@pytest.fixture(scope="module")
def entries():
    random = np.random.default_rng(3)
    return [
        slice_entry(*random_slice(random, OBJECT_CLASSES["lung+lesions"]), OBJECT_CLASSES["lung+lesions"], min_area=5)
        for _ in range(40)
    ]


def test_hiding_weak_predictions_is_only_a_filter():
    "The slider filters; matching anew what is left must give the same."
    random = np.random.default_rng(0)
    for _ in range(300):
        n, m = random.integers(0, 7, 2)
        iou, scores, least = random.random((n, m)).round(1), random.random(n).round(1), random.random()
        taken, kept = match_lesions(iou, scores, 0.4, least), np.flatnonzero(scores >= least)
        assert (
            taken[kept].tolist() == greedy_matches(iou[kept], scores[kept], 0.4).tolist()
            and (taken[scores < least] == HIDDEN).all()
        )


def test_browser_counts_as_python_does(entries, tmp_path):
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed; make test-browser compares the counts in Chromium")
    random, cases = np.random.default_rng(1), []
    for _ in range(200):
        n, m = random.integers(0, 8, 2)
        cases.append(
            {
                "iou": random.random((n, m)).round(1).tolist(),
                "scores": random.random(n).round(1).tolist(),
                "threshold": float(random.choice([0.1, 0.5, 0.7])),
            }
        )
    asked = [
        [score, iou, reading]
        for score in (0, 0.3, 0.6)
        for iou in (0.05, 0.5, 0.9)
        for reading in ("merged", "classes")
    ]
    code = (
        script_of("viewport", "lesion_counts", "lesions")
        + f"""
const cases = {json.dumps(cases)}, entries = {json.dumps(entries)}, asked = {json.dumps(asked)};
const none = {{ matched: 0, missed: 0, false: 0 }};
const count = (all, {{ outcome }}) => ({{ ...all, [outcome]: (all[outcome] ?? 0) + 1 }});
console.log(JSON.stringify({{
  greedy: cases.map(({{ iou, scores, threshold }}) => greedy(iou, scores, threshold)),
  sums: asked.map((how) => sums(entries, ...how)),
  rows: asked.map((how) => entries.map((entry) => lesionRows(entry, ...how).reduce(count, none))),
  words: asked.flatMap((how) => entries.map((entry) => told(entry, lesionRows(entry, ...how), how[1]))),
}}));"""
    )
    (tmp_path / "check.mjs").write_text(code)
    done = subprocess.run([node, str(tmp_path / "check.mjs")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for case, takes in zip(cases, found["greedy"]):
        assert (
            takes
            == greedy_matches(
                np.array(case["iou"]).reshape(len(case["scores"]), -1 if case["scores"] else 0),
                case["scores"],
                case["threshold"],
            ).tolist()
        ), case
    assert any(one["matched"] and one["missed"] and one["false"] for one in found["sums"])
    for how, told, rows in zip(asked, found["sums"], found["rows"]):
        assert {name: told[name] for name in ("slices", "matched", "missed", "false")} | {
            name: pytest.approx(told[name]) if told[name] else told[name]
            for name in ("precision", "recall", "mean_iou")
        } == volume_outcome(entries, *how), how
        assert rows == [
            {name: slice_outcome(entry, *how)[name] for name in ("matched", "missed", "false")} for entry in entries
        ]
    assert (
        all(words.strip() and "undefined" not in words and "NaN" not in words for words in found["words"])
        and len(set(found["words"])) > 20
    )


def test_truth_is_that_of_the_scores():
    "As many true lesions and predictions as pycocotools is told of, in both readings."
    random, objects = np.random.default_rng(5), OBJECT_CLASSES["lesions"]
    scorer, entries = CocoScorer(objects, min_area=5), []
    for number in range(25):
        found, detections = random_slice(random, objects)
        scorer.add(str(number), detections, found.mask)
        entries.append(slice_entry(found, detections, objects, min_area=5))
    figures = scorer.score()
    merged, classes = (volume_outcome(entries, 0, 0.5, reading) for reading in ("merged", "classes"))
    assert (
        merged["matched"] + merged["missed"] == figures["merged"]["n_truth"]
        and merged["matched"] + merged["false"] == figures["headline"]["n_predictions"]
    )
    assert (
        classes["matched"] + classes["missed"]
        == figures["GGO"]["n_truth"] + figures["consolidation"]["n_truth"]
        != figures["merged"]["n_truth"]
    )


def test_lungs_are_drawn_and_not_counted(entries):
    assert lesion_labels(OBJECT_CLASSES["lung+lesions"]) == [2, 3] and readings_of(OBJECT_CLASSES["lung+lesions"]) == [
        ["merged", "lesion (merged)"],
        ["classes", "GGO, consolidation"],
    ]
    assert readings_of(OBJECT_CLASSES["merged"]) == [["classes", "lesion"]]
    assert (
        all(one["name"] != "lung" for entry in entries for one in entry["found"])
        and any(entry["lungs"]["found"] for entry in entries)
        and entries[0]["lungs"]["truth"].startswith("M")
    )


def test_a_slice_without_a_mask_is_not_judged():
    found, detections = random_slice(np.random.default_rng(8), OBJECT_CLASSES["lesions"])
    entry = slice_entry(Slice("s", "p", "1", 0, found.pixels), detections, OBJECT_CLASSES["lesions"])
    assert (
        entry["readings"] == {}
        and slice_outcome(entry) == {}
        and volume_outcome([entry])["precision"] is None
        and len(entry["found"]) == len(detections)
    )
    assert [one["score"] for one in entry["found"]] == sorted((one["score"] for one in entry["found"]), reverse=True)


# -- the browser itself


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(
        tiny(model="mask-rcnn", detector_epochs=3, phantom_slices=4, objects="lesions"),
        tmp_path_factory.mktemp("runs") / "mask-rcnn",
        progress=False,
    )


@pytest.fixture(scope="module")
def shown(run):
    "A browser that tests of its state may share: each leaves it as it was."
    return LesionBrowser(run)


def test_volume_is_read_slice_by_slice_in_the_background(run):
    async def watch():
        browser, told = LesionBrowser(run), []
        browser.send = lambda message, buffers=None: told.append(message)
        read = [sum(entry["read"] for entry in browser.slices)]
        assert next(entry for entry in browser.slices if entry["id"] == browser.slice)["read"], (
            "the slice on show comes first"
        )
        for _ in range(200):
            await asyncio.sleep(0.02)
            read.append(sum(entry["read"] for entry in browser.slices))
            if read[-1] == len(browser.slices):
                break
        return browser, read, [message["number"] for message in told if "entry" in message]

    browser, read, numbers = asyncio.run(watch())
    here = [entry["id"] for entry in browser.slices].index(browser.slice)
    assert read[0] == 1 and read[-1] == 4 == len(browser.slices) and sorted(numbers + [here]) == [0, 1, 2, 3]
    assert [abs(number - here) for number in numbers] == sorted(abs(number - here) for number in numbers), (
        "the nearest first"
    )


def test_detections_are_kept_and_forgotten(run, monkeypatch):
    browser, calls = LesionBrowser(run), []
    monkeypatch.setattr("covid_workbench.widgets.lesion_reader.KEPT", 2)
    asked = browser.reader.read_slice
    monkeypatch.setattr(browser.reader, "read_slice", lambda slice_id: calls.append(slice_id) or asked(slice_id))
    names = list(browser.reader.volumes.rows)
    first = browser.volume
    browser.read_volume()
    browser.go_to(next(name for name in names if name != first))
    here = len(calls)
    browser.go_to(first)
    assert len(calls) == here, "a visited volume is not read again"
    for name in [name for name in names if name != first][:3]:
        browser.go_to(name)
    assert len(browser.reader._kept) == 2 and first not in browser.reader._kept


def test_same_view_again(run):
    browser = LesionBrowser(run)
    browser.go_to(list(browser.reader.volumes.rows)[-1])
    browser.score, browser.iou, browser.selected, browser.layers, browser.camera, browser.window = (
        0.2,
        0.3,
        "t0",
        ["truth"],
        {"x": 0.1, "y": 0.2, "zoom": 2.0},
        90.0,
    )
    held = json.loads(json.dumps(browser.state))
    other = LesionBrowser(run)
    other.state = held
    assert (other.score, other.iou, other.selected, other.layers, other.camera["zoom"], other.window) == (
        0.2,
        0.3,
        "t0",
        ["truth"],
        2.0,
        90.0,
    )
    assert other.state == browser.state and other.volume == browser.volume and other.pixels == browser.pixels
    with pytest.raises(InputError, match="score=1.5"):
        other.score = 1.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "'version' is '2'"),
        ({"slice": "nowhere"}, "slice 'nowhere' is not among"),
        ({"slice": 7}, "'slice' is 7"),
        ({"run": None}, "'run' is None"),
        ({"score": "much"}, "'score' is 'much'"),
        ({"score": True}, "'score' is True"),
        ({"score": 1.5}, "score 1.5: give a number from 0 to 1"),
        ({"iou": -0.1}, "iou -0.1: give a number from 0 to 1"),
        ({"reading": "lobes"}, "reading 'lobes' is not among"),
        ({"selected": "everything"}, "selected 'everything': give a lesion"),
        ({"layers": "truth"}, "'layers' is 'truth'"),
        ({"layers": ["truth", "bones"]}, "layers 'bones' is not among"),
        ({"window": 0}, "window 0: give a number above 0"),
        ({"level": float("inf")}, "'level' is inf"),
        ({"camera": {"zoom": 1.0}}, "'camera' is"),
        ({"camera": {"x": 0, "y": 0, "zoom": "far"}}, "zoom"),
        ({"camera": {"x": 0, "y": 0, "zoom": 0}}, "camera: zoom 0: give a number above 0"),
        ({"lesion": "t0"}, "unknown field 'lesion'"),
    ],
)
def test_a_wrong_state_is_refused_and_nothing_changes(shown, change, words):
    held = shown.state
    with pytest.raises(InputError, match=words):
        shown.state = held | change
    assert shown.state == held


def test_a_state_that_lacks_a_field_is_refused(shown):
    held = shown.state
    assert set(LESION_STATE.newer) == {"hu_window"}
    for name in set(held) - set(LESION_STATE.newer):
        with pytest.raises(InputError, match=f"lacks '{name}'"):
            shown.state = {field: value for field, value in held.items() if field != name}
    assert shown.state == held


def test_a_state_of_the_last_release_still_opens(shown):
    first = shown.state["slice"]
    shown.state = {
        "version": 1,
        "run": "/elsewhere/mask-rcnn",
        "slice": first,
        "score": 0.25,
        "iou": 0.4,
        "reading": "classes",
        "selected": "p0",
        "layers": ["predictions", "lungs"],
        "window": 90,
        "level": 100.5,
        "camera": {"x": 0.1, "y": 0, "zoom": 2},
    }
    assert (shown.score, shown.window, shown.selected, shown.reading) == (0.25, 90.0, "p0", "classes")


def test_the_reader_needs_no_browser(run):
    reader = LesionReader(run)
    name = reader.volumes.first()
    reader.shown = reader.volumes.ids(name)[1]
    order = reader.waiting(name, reader.shown)
    assert order[0] == 1 and sorted(order) == [0, 1, 2, 3]
    entries = [reader.read(name, index) for index in order]
    assert reader.waiting(name, reader.shown) == [] and reader.read(name, 0) is None
    assert reader.last.image.id == reader.shown == entries[0]["id"], "the masks of the slice on show are kept"
    assert volume_outcome(reader.entries(name))["slices"] == 4


def test_still_picture_tells_the_counts(run):
    browser = LesionBrowser(run)
    browser.score, browser.iou = 0.05, 0.1
    told = slice_outcome(
        next(entry for entry in browser.slices if entry["id"] == browser.slice), 0.05, 0.1, browser.reading
    )
    assert f"{told['matched']} matched, {told['missed']} missed, {told['false']} false" in browser.picture(1200).svg


def test_page_gets_pixels_of_neighbours(run):
    browser, sent = LesionBrowser(run), []
    browser.send = lambda message, buffers=None: sent.append((message, buffers))
    wanted = browser.slices[0]["id"]
    browser._heard(None, {"want": [wanted, "no such slice"]}, None)
    row = list(browser.reader.volumes.table.frame["id"]).index(wanted)
    assert (
        len(sent) == 1
        and sent[0][0] == {"pixels": wanted, "shape": [64, 64]}
        and sent[0][1] == [browser.reader.volumes.table.read(row).pixels.tobytes()]
    )


def test_volumes_are_named_apart(run):
    frame = run.table.frame.head(4).assign(
        patient="7", source=["a", "a", "b", "b"], scan=["1", "2", "1", "1"], index=[0, 0, 5, 4]
    )
    assert volumes_of(frame) == {"7, scan 1 (a)": [0], "7, scan 2 (a)": [1], "7 (b)": [3, 2]}


# -- what is said


def test_no_detector(tmp_path_factory):
    run = train(tiny(model="classifier"), tmp_path_factory.mktemp("plain") / "classifier", progress=False)
    with pytest.raises(InputError, match="plain classifier.*finds no lesions"):
        LesionBrowser(run)


def test_wrong_words(run, tmp_path):
    for how, words in (
        ({"patient": "P9999"}, "P9999"),
        ({"slice": "x"}, "'x' is not among"),
        ({"data": tmp_path / "gone"}, "gone: no such data folder; give"),
        ({"split": "tset"}, "tset"),
    ):
        with pytest.raises(InputError, match=words):
            LesionBrowser(run, **how)
    with pytest.raises(InputError, match="is not a run"):
        LesionBrowser(tmp_path)


def test_moved_data(run, tmp_path):
    copy = tmp_path / "runs" / "moved"
    shutil.copytree(run.folder, copy)
    content = json.loads((copy / "experiment.json").read_text())
    content["record"] |= {"data_root": str(tmp_path / "old place"), "data_beside": "nowhere"}
    (copy / "experiment.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="old place, which is not there; give their folder"):
        LesionBrowser(Run.open(copy))
    assert LesionBrowser(copy, run.table.root).volumes


def test_a_damaged_slice_is_told_in_its_place(run, tmp_path):
    frame = run.table.split("test").frame
    for name in [*frame["image"], *frame["mask"]]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.table.root / name, tmp_path / name)
    browser = LesionBrowser(run, SliceTable(frame, tmp_path))
    (tmp_path / frame["image"].iloc[0]).write_bytes(b"not a picture")
    browser.slice = frame["id"].iloc[0]
    entry = next(entry for entry in browser.slices if entry["id"] == browser.slice)
    assert (
        "cannot be read as a picture" in entry["error"]
        and browser.pixels == b""
        and "cannot be read" in browser.picture(1500).svg
    )
    browser.read_volume()
    assert (
        sum(bool(one["error"]) for one in browser.slices) == 1 and browser.outcome["slices"] == len(browser.slices) - 1
    )


def test_slices_without_any_mask_show_predictions_only(run):
    table = run.table.split("test")
    browser = LesionBrowser(run, SliceTable(table.frame.assign(mask=""), table.root))
    browser.read_volume()
    assert (
        browser.outcome["slices"] == 0
        and browser.volumes[0][1].endswith("no truth")
        and "no true mask" in browser.picture(900).svg
    )
