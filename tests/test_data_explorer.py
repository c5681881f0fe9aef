"""The data explorer without a browser: numbers are pandas', areas the detector's targets, slices the finding's."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from PIL import Image

from covid_workbench.data.description import DataDescription, ObjectClasses
from covid_workbench.data.findings import Finding
from covid_workbench.data.slices import Slice
from covid_workbench.data.sources import open_source
from covid_workbench.data.splits import split_by_patient
from covid_workbench.data.targets import lesion_targets
from covid_workbench.errors import InputError
from covid_workbench.lab import explorer_notebooks
from covid_workbench.runs.run import Run
from covid_workbench.widgets import data as data_widget
from covid_workbench.widgets.data import DataExplorer
from covid_workbench.widgets.data_figures import figures_of, lesion_table, mask_styles, slice_places
from covid_workbench.widgets.data_sheet import SIDE, ContactSheet, mask_outlines, sheet_picture, tile_picture
from covid_workbench.widgets.data_view import (
    DATA_STATE,
    ON_A_PAGE,
    DataChoices,
    ShownData,
    counts_of,
    data_of,
    open_data,
    pages_of,
    tiles_of,
)


@pytest.fixture(scope="module")
def plain(phantom) -> ShownData:
    "The phantom with splits and two sources, as the explorer opens it."
    table = split_by_patient(open_source(phantom))
    frame = table.frame.assign(source=np.where(table.frame.groupby("patient").ngroup() % 2, "first", "second"))
    return open_data(table.with_rows(frame), progress=False)


@pytest.fixture(scope="module")
def data(plain) -> ShownData:
    "The same with findings of each kind: one slice, twins, a patient, a file, none of these."
    ids, frame = list(plain.table.frame["id"]), plain.table.frame
    findings = (
        Finding("error", "unreadable", "One file cannot be read.", "Replace it.", (dict(slice=ids[3]),), 1),
        Finding(
            "error", "twins", "Twins.", "", (dict(slice=ids[0], other=ids[11]), dict(slice=ids[1], other=ids[8])), 40
        ),
        Finding(
            "warning", "twins", "More.", "", (dict(patient=frame["patient"][4], value=0.5),), 1, (("auc", 0.8123),)
        ),
        Finding("warning", "masks", "A mask.", "", (dict(file=frame["mask"][5]), dict(file="gone.png")), 2),
        Finding("note", "splits", "Nothing to see."),
    )
    return dataclasses.replace(plain, findings=findings)


@pytest.fixture
def explorer(data, monkeypatch) -> DataExplorer:
    monkeypatch.setattr(data_widget, "open_data", lambda *_, **__: data)
    return DataExplorer("folder")


def ids_of(data: ShownData, tiles) -> list[str]:
    return [data.table.frame["id"][tile.row] for tile in tiles]


# -- counts


@pytest.mark.parametrize("across", ["split", "source"])
def test_counts_are_those_of_pandas(data, across):
    frame = data.table.frame.assign(person=data.table.patients)
    counts = counts_of(data, across)
    for row in counts["rows"]:
        for column, cell in zip(counts["columns"], row["cells"]):
            part = frame
            if row["value"] is not None:
                part = part[part["label"] == row["value"]]
            if column["value"] is not None:
                part = part[part[across] == column["value"]]
            assert cell == {"slices": len(part), "patients": part["person"].nunique()}, (row["words"], column["words"])
    assert [row["value"] for row in counts["rows"]][:3] == ["Normal", "CP", "COVID-19"]
    assert counts["rows"][-1]["cells"][-1]["slices"] == len(data)


def test_unknown_patients_are_not_counted(data):
    unknown = data.table.with_rows(data.table.frame.assign(patient_unknown=True))
    every = counts_of(dataclasses.replace(data, table=unknown), "split")["rows"][-1]["cells"][-1]
    assert every == {"slices": len(data), "patients": None}


def test_another_data_set_has_its_own_classes_and_colours(data):
    held = DataDescription(
        classes=("healthy", "tuberculosis"),
        normal="healthy",
        mask_names={0: "background", 1: "lung", 2: "cavity", 7: "nodule"},
        objects={"lesions": ObjectClasses(("cavity", "nodule"), ((2,), (7,)))},
        colours={"nodule": "#123456"},
    )
    frame = data.table.frame.assign(label=["healthy", "tuberculosis"] * (len(data) // 2))
    renamed = type(data.table)(frame, data.table.roots, "renamed", held)
    shown = dataclasses.replace(data, table=renamed, objects=held.objects["lesions"])
    assert [row["value"] for row in counts_of(shown, "split")["rows"]] == ["healthy", "tuberculosis", None]
    mask = np.zeros((20, 20), np.uint8)
    mask[2:6, 2:6], mask[9:15, 9:15], mask[17:19, 17:19] = 2, 7, 1
    image = Slice("one", "patient", "1", 1, np.zeros((20, 20), np.uint8), mask=mask, description=held)
    outlines = {one["name"]: one for one in mask_outlines(image)}
    assert list(outlines) == ["lung", "cavity", "nodule"] and outlines["nodule"]["colour"] == "#123456"
    assert outlines["lung"]["organ"] and not outlines["cavity"]["organ"]
    assert len({colour for _, colour, _ in mask_styles(held).values()}) == 3


# -- histograms


def test_areas_are_those_of_the_targets(data):
    lesions = lesion_table(data)
    per_slice = {name: [] for name in data.objects.names}
    for row in range(len(data)):
        mask = data.table.read(row).mask
        every = lesion_targets(mask, data.objects, min_area=0)
        kept = lesion_targets(mask, data.objects, min_area=data.min_area)
        own = lesions[lesions["row"] == row]
        for number, name in enumerate(data.objects.names, start=1):
            areas = sorted(int(one.sum()) for one, label in zip(every.masks, every.labels) if label == number)
            assert sorted(own["area"][own["name"] == name]) == areas
            per_slice[name].append(int((kept.labels == number).sum()))
        assert own["kept"].sum() == len(kept)
    of_slices, of_areas = figures_of(data)[:2]
    for series, areas in zip(of_slices.series, of_areas.series):
        counts = pd.Series(per_slice[series.name]).value_counts()
        assert series.values == [int(counts.get(number, 0)) for number in range(1, len(series.values) + 1)]
        assert sum(areas.values) == areas.count == (lesions["name"] == areas.name).sum()
    lost = int((~lesions["kept"]).sum())
    assert 0 < lost < len(lesions) and of_areas.note.startswith(f"{lost} of {len(lesions)} lesions")


def test_the_least_area_is_one_of_the_networks_picture(data):
    half = dataclasses.replace(data, image_size=32)  # stored at 64: four stored pixels for each
    stored = dataclasses.replace(data, min_area=4 * data.min_area)
    assert lesion_table(half)["kept"].tolist() == lesion_table(stored)["kept"].tolist()
    marks = [next(one.mark for one in figures_of(one) if one.title == "Lesion area") for one in (half, stored)]
    assert marks[0] == pytest.approx(marks[1])


def test_place_and_grey_by_class(data):
    places = slice_places(data)
    assert set(places) == {0.0, 1.0}  # two slices a scan
    at, grey = figures_of(data)[2:]
    for series in at.series:
        rows = (data.table.frame["label"] == series.name) | (data.table.frame["label"] == "") & (
            series.name == "no class"
        )
        own = places[rows.to_numpy()]
        assert series.values[0] == pytest.approx((own == 0).mean()) and series.count == len(own)
    assert all(sum(series.values) == pytest.approx(1) for series in grey.series)
    normal = data.table.where(data.table.frame["label"] == "Normal")
    dark = np.mean([(normal.read(row).pixels < 8).mean() for row in range(len(normal))])
    assert grey.series[0].values[0] == pytest.approx(dark, abs=0.02)


def test_without_masks_there_are_no_lesions(data):
    table = data.table.with_rows(data.table.frame.assign(mask=""))
    assert [one.title for one in figures_of(dataclasses.replace(data, table=table))] == [
        "Place in the scan",
        "Grey values",
    ]


# -- the sheet


@pytest.mark.parametrize("order", ["mixed", "stored", "lesions"])
def test_pages_hold_every_slice_once(data, order):
    pages = pages_of(tiles_of(data, DataChoices(order=order)))
    rows = [tile.row for page in pages for tile in page]
    assert sorted(rows) == list(range(len(data))) and all(len(page) <= ON_A_PAGE for page in pages)
    assert (rows == sorted(rows)) == (order == "stored")
    if order == "lesions":
        areas = [np.isin(data.table.read(row).mask, [2, 3]).sum() for row in rows]
        assert areas == sorted(areas, reverse=True)


def test_filters(data):
    frame = data.table.frame
    picked = {"label": ["Normal", "CP"], "source": ["first"], "split": []}
    wanted = frame[frame["label"].isin(["Normal", "CP"]) & (frame["source"] == "first")]
    assert sorted(ids_of(data, tiles_of(data, DataChoices(picked)))) == sorted(wanted["id"])
    assert pages_of([]) == [[]]


def test_a_finding_shows_its_slices(data):
    ids, frame = list(data.table.frame["id"]), data.table.frame
    assert list(data.by_key) == ["unreadable", "twins", "twins 2", "masks", "splits"]
    shown = {key: tiles_of(data, DataChoices(finding=key)) for key in data.by_key}
    assert ids_of(data, shown["unreadable"]) == [ids[3]]
    assert ids_of(data, shown["twins"]) == [ids[0], ids[11], ids[1], ids[8]]
    assert [tile.group for tile in shown["twins"]] == [0, 0, 1, 1]
    assert ids_of(data, shown["twins 2"]) == list(frame["id"][frame["patient"] == frame["patient"][4]])
    assert {tile.words for tile in shown["twins 2"]} == {"0.5"}
    assert ids_of(data, shown["masks"]) == [ids[5]] and shown["splits"] == []
    here = frame["source"][0]  # a twin stays beside the other, whatever the filter says of that one
    assert ids_of(data, tiles_of(data, DataChoices({"source": [here]}, "twins")))[:2] == [ids[0], ids[11]]


def test_twins_are_never_torn_apart(data):
    ids = list(data.table.frame["id"])
    places = tuple(dict(slice=ids[row], other=ids[row + 14]) for row in range(14))
    pages = pages_of(
        tiles_of(
            dataclasses.replace(data, findings=(Finding("error", "all", "All.", "", places),)),
            DataChoices(finding="all"),
        )
    )
    assert [len(page) for page in pages] == [24, 4]
    assert all(len({tile.group for tile in page}) == len(page) / 2 for page in pages)


def test_a_tile_keeps_shape_and_small_lesions():
    mask = np.zeros((256, 512), np.uint8)
    mask[41:44, 101:104] = 3  # half a pixel of the tile
    picture = tile_picture(Slice("wide", "patient", "1", 1, np.full((256, 512), 200, np.uint8), mask=mask))
    assert picture.pixels.shape == (SIDE, SIDE) and picture.frame == (0, 32, 128, 64)
    assert (picture.pixels[32:96] == 200).all() and not picture.pixels[:32].any()
    (one,) = picture.outlines
    x, y = np.array([float(number) for number in re.findall(r"[\d.]+", one["d"])]).reshape(-1, 2).mean(0)
    assert one["name"] == "consolidation" and (x, y) == pytest.approx((25, 10), abs=0.6)


def test_a_slice_that_cannot_be_read_has_a_word(data, tmp_path):
    frame = data.table.frame.head(2).assign(image="gone.png", mask="")
    broken = dataclasses.replace(data, table=data.table.with_rows(frame), facts=data.facts.head(2))
    sheet = ContactSheet(broken)
    tiles = tiles_of(broken, DataChoices())
    traits = sheet.traits(tiles)
    assert all("gone.png" in entry["error"] for entry in traits["tiles"]) and not any(traits["thumbs"])
    assert "cannot be read" in sheet_picture(sheet, tiles, "broken").svg


# -- the widget


def test_clicks(explorer, data):
    ids = list(data.table.frame["id"])
    assert len(explorer.tiles) == ON_A_PAGE and explorer.total == len(data) == 30 and explorer.pages == 2
    assert explorer.slice == explorer.tiles[0]["id"]
    assert len(explorer.thumbs) == ON_A_PAGE * SIDE * SIDE
    explorer.finding = "twins"
    assert [entry["id"] for entry in explorer.tiles] == [ids[0], ids[11], ids[1], ids[8]] and explorer.slice == ids[0]
    explorer.slice = ids[11]
    image = data.table.read(11)
    assert explorer.pixels == image.pixels.tobytes() and explorer.shape == list(image.pixels.shape) and not explorer.hu
    known = dict(explorer.about_slice)
    assert known["patient"] == image.patient and known["file"] == data.table.frame["image"][11]
    assert [one["name"] for one in explorer.outlines] == [
        name for value, name in ((1, "lung"), (2, "GGO"), (3, "consolidation")) if (image.mask == value).any()
    ]
    explorer.finding = ""
    assert explorer.total == len(data)
    explorer.page = 1
    assert explorer.slice == explorer.tiles[0]["id"] and len(explorer.tiles) == len(data) - ON_A_PAGE
    explorer.page = 99
    assert explorer.page == 1
    explorer.filters = {"label": ["CP"]}
    assert explorer.page == 0 and {entry["label"] for entry in explorer.tiles} == {"CP"}
    assert [[one["value"], one["on"]] for one in explorer.facets[0]["values"]][1] == ["CP", True]
    explorer.filters = {"label": ["CP"], "source": ["nowhere"]}
    assert explorer.tiles == [] and explorer.slice == "" and explorer.slice_error == "No slice to show."
    with pytest.raises(InputError, match="finding 'twin' is not among"):
        explorer.finding = "twin"


def test_a_finding_in_words(explorer):
    rows = {row["key"]: row for row in explorer.findings}
    assert rows["twins 2"]["figures"] == "auc 0.812" and rows["twins"]["count"] == 40 and rows["twins"]["slices"] == 4
    assert rows["splits"] == {
        "key": "splits",
        "level": "note",
        "rule": "splits",
        "what": "Nothing to see.",
        "mend": "",
        "count": 0,
        "slices": 0,
        "figures": "",
    }
    explorer.finding = "splits"
    assert explorer.tiles == [] and explorer.slice_error
    json.dumps([explorer.findings, explorer.figures, explorer.counts, explorer.tiles], allow_nan=False)


WRONG = {
    "version": (0, "1", True, None),
    "filters": ([], {"hospital": ["a"]}, {"label": ["Corona"]}, {"label": "CP"}),
    "finding": (None, "twin", 3),
    "order": ("", "by size", None),
    "page": (-1, 0.5, "0", None),
    "slice": ("nobody", 7, None),
    "layers": (["truth"], "masks", None),
    "window": (0, "wide", None, float("nan")),
    "level": ("high", float("inf")),
    "hu_window": ([-600.0], [150.0, -1350.0], None, "lung"),
    "camera": ({}, {"x": 0.0, "y": 0.0, "zoom": 0.0}, {"x": 0.0, "y": 0.0, "zoom": "far"}),
}


def test_every_field_of_a_state_is_checked(explorer):
    explorer.finding = "twins"
    held, tiles = explorer.state, explorer.tiles
    assert set(WRONG) == set(held) == {"version", *DATA_STATE.kinds}
    for field, values in WRONG.items():
        lacking = {name: value for name, value in held.items() if name != field}
        for wrong in (lacking, held | {f"{field}s": held[field]}, *(held | {field: value} for value in values)):
            with pytest.raises(InputError, match=field):
                explorer.state = wrong
            assert explorer.state == held and explorer.tiles == tiles, (field, wrong)


def test_a_view_comes_back(explorer, data):
    explorer.filters, explorer.page = {"source": ["first"]}, 0
    explorer.slice = explorer.tiles[5]["id"]
    explorer.layers, explorer.window = [], 90.0
    held, shown = json.loads(json.dumps(explorer.state)), (explorer.tiles, explorer.pixels, explorer.about_slice)
    explorer.filters, explorer.finding, explorer.layers = {}, "twins", ["masks"]
    explorer.state = held
    assert explorer.state == held and (explorer.tiles, explorer.pixels, explorer.about_slice) == shown
    other = DataExplorer("folder")
    other.state = f"http://somewhere#cw={json.dumps(held)}"
    assert other.tiles == shown[0]


def test_a_still_picture_for_where_widgets_cannot_run(explorer):
    bundle = explorer._repr_mimebundle_()
    svg = (bundle[0] if isinstance(bundle, tuple) else bundle)["image/svg+xml"]
    assert svg.count("<image") == ON_A_PAGE and explorer.tiles[0]["id"][:18] in svg
    plain = len(svg)
    explorer.layers = []
    assert len(explorer.picture().standalone) < plain


@pytest.mark.parametrize(
    "where, words",
    [("no/such/folder", "no such data folder"), ([], "give a folder of slices"), (7, "give a folder of slices")],
)
def test_what_cannot_be_opened_is_a_sentence(where, words):
    explorer = DataExplorer(where, progress=False)
    assert words in explorer.trouble and "\n" not in explorer.trouble
    assert "image/svg+xml" not in str(explorer._repr_mimebundle_())


def test_an_empty_folder_is_a_sentence(tmp_path):
    assert "no slices" in DataExplorer(tmp_path, progress=False).trouble
    Image.new("L", (40, 40)).save(tmp_path / "one.png")
    shown = DataExplorer(tmp_path, progress=False)
    assert not shown.trouble and shown.total == 1 and shown.about[1].startswith("1 slice · 1 patient · 0 with a mask")


def test_a_damaged_file_is_found_and_shown(phantom, tmp_path):
    table = open_source(phantom)
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    frame = table.frame.assign(folder=0)
    frame.loc[2, ["image", "folder"]] = ["damaged.png", 1]
    mended = type(table)(frame, [phantom, tmp_path], "two folders", table.description)
    explorer = DataExplorer(mended, progress=False)
    key = next(row["key"] for row in explorer.findings if row["level"] == "error" and row["slices"])
    explorer.finding = key
    assert explorer.slice == frame["id"][2] and "damaged.png" in explorer.slice_error and explorer.tiles[0]["error"]


# -- runs and doors


def test_a_run_brings_its_splits_and_its_least_lesion(data, tmp_path, monkeypatch):
    settings = tiny(min_lesion_area=40, objects="merged")
    monkeypatch.setattr(Run, "table", data.table)
    table, known = data_of(Run(tmp_path, settings))
    assert table is data.table and known == {
        "min_area": settings.data.min_lesion_area,
        "image_size": settings.data.image_size,
        "objects": settings.objects,
    }


def test_lab_fills_in_the_folder(phantom, tmp_path):
    made = {path.stem: path for path in explorer_notebooks(tmp_path / "explore", data=phantom)}
    source = "".join("".join(cell["source"]) for cell in json.loads(made["data"].read_text())["cells"])
    assert f"data = {str(phantom)!r}" in source and "store = 'survey.sqlite'" in source
