"""Answers that read well: pictures that survive in notebooks, overlays, file names, one page of answers."""

import base64
import json
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from covid_workbench import lab
from covid_workbench.evaluation.answers import table_of_files
from covid_workbench.evaluation.detection import Detections
from covid_workbench.reports.answer_files import file_name_of, overlay_words
from covid_workbench.reports.pictures import overlay_png, slice_picture
from covid_workbench.reports.run_report import attention_gallery, detection_gallery

GREY = np.full((128, 128), 90, np.uint8)


def test_a_notebook_keeps_a_picture_as_an_image():
    picture = slice_picture(GREY, title='<b>"P1" & more')
    shown = picture._repr_html_()
    assert "<svg" not in shown and shown.startswith("<img ") and shown.count("<") == 1
    held = ElementTree.fromstring(shown.removesuffix(">") + "/>").attrib
    assert held["alt"] == '<b>"P1" & more' and held["width"] == "360"
    drawn = base64.b64decode(held["src"].partition("base64,")[2]).decode()
    assert drawn == picture.standalone and ElementTree.fromstring(drawn).get("width") == "360"


def test_galleries_are_images_in_notebooks_and_drawings_on_pages(finished):
    for gallery in (attention_gallery, detection_gallery):
        assert "<svg" not in gallery(finished) and gallery(finished).count("<img") > 1
        assert gallery(finished, inline=True).count("<svg") > 1 and "<img" not in gallery(finished, inline=True)


def test_an_overlay_shows_outlines_ranks_and_words():
    mask = np.zeros((1, 128, 128), bool)
    mask[0, 40:60, 30:90] = True
    found = Detections(np.array([[30.0, 40, 90, 60]]), np.array([1]), np.array([0.9]), mask)
    plain = np.asarray(overlay_png(GREY, found, None, ("GGO",)))
    assert plain[50 * 4, 60 * 4].tolist() != [90] * 3 and plain.shape == (512, 512, 3)
    regions, words = np.array([[10.0, 80, 50, 110], [10.0, 80, 50, 110], [70, 90, 120, 120]]), "P1: CP 0.93, 1 lesion"
    shown = overlay_png(
        GREY, found, None, ("GGO",), regions=regions, attention=np.array([[0.2, 0.3, 0.5]]), words=words
    )
    pixels = np.asarray(shown)
    assert pixels.shape[0] > 512 and (pixels[100 * 4, 50 * 4] != 90).any()  # a strip below; the side of a region
    assert (pixels[512:].max(axis=(0, 1)) > 200).all() and (plain[100 * 4, 50 * 4] == 90).all()
    alone = np.asarray(overlay_png(GREY, None, regions=regions))
    assert (alone[50 * 4, 60 * 4] == 90).all() and (alone[100 * 4, 50 * 4] != 90).any()


def test_an_outline_goes_around_a_lesion_without_a_box():
    mask = np.zeros((1, 128, 128), bool)
    mask[0][np.hypot(*np.mgrid[-64:64, -64:64]) < 30] = True
    found = Detections(np.array([[2.0, 2, 126, 126]]), np.array([1]), np.array([0.9]), mask)
    line = np.asarray(overlay_png(GREY, found, None, ("GGO",)))[64 * 4, 64 * 4 : 120 * 4].astype(int)
    assert len(np.unique(line, axis=0)) == 3  # tinted, its outline, grey


def test_file_names_have_the_ending_of_the_picture():
    assert file_name_of("a/P1", "/data/a/P1.PNG") == "a/P1.PNG" and file_name_of("P1.jpg", "P1.jpg") == "P1.jpg"
    assert file_name_of("P1.png", "/data/P1.PNG") == "P1.png"
    assert file_name_of("scan_003", "/data/scan.nii.gz") == "scan_003"
    entry = {"id": "P1", "class": "CP", "probabilities": {"CP": 0.934, "Normal": 0.066}, "lesions": [{}]}
    assert overlay_words(entry) == "P1: CP 0.93, 1 lesion"
    assert overlay_words({"id": "P1", "lesions": []}) == "P1: 0 lesions"


@pytest.fixture
def twins(phantom, tmp_path) -> list[Path]:
    "Two pictures of one name in two folders."
    files = []
    for folder, source in zip("ab", pd.read_csv(phantom / "slices.csv")["image"]):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "slice.png")
        files[-1].write_bytes((phantom / source).read_bytes())
    return files


def test_slices_of_one_name_are_told_apart(twins):
    assert table_of_files(twins).frame["id"].tolist() == ["a/slice", "b/slice"]


def test_predict_writes_one_page_and_names_that_coco_tools_find(finished, twins, command, tmp_path):
    code, out, error = command("predict", finished.folder, *twins, "--out", tmp_path / "out", "--score", "0")
    assert code == 0 and "answers.html" in out, error
    coco = json.loads((tmp_path / "out" / "lesions.coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a/slice.png", "b/slice.png"]
    assert [image["slice"] for image in coco["images"]] == ["a/slice", "b/slice"]
    page, told = (
        (tmp_path / "out" / "answers.html").read_text(),
        json.loads((tmp_path / "out" / "predictions.json").read_text()),
    )
    for number, entry in enumerate(told["slices"], 1):
        sure, heading = entry["probabilities"][entry["class"]], f'<h2 id="slice-{number}">{entry["id"]}: '
        assert f"{heading}{entry['class']} {sure:.2f}, " in page and f"{sure:.3f}" in page
        assert f'<img src="{entry["overlay"]}"' in page and f"{entry['regions'][0]['attention'][0]:.3f}" in page
        assert Image.open(tmp_path / "out" / entry["overlay"]).height > 512  # with the strip of words
    assert "http" not in page and len(re.findall("<table>", page)) >= 6


def test_the_address_of_the_notebook_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    notebook = tmp_path / "explore" / "my attention.ipynb"
    assert lab.lab_address(7, notebook) == ""
    about = {"url": "http://127.0.0.1:8889/", "token": "abc", "root_dir": str(tmp_path / "explore")}
    (tmp_path / "jpserver-7.json").write_text(json.dumps(about))
    address = "http://127.0.0.1:8889/lab/tree/my%20attention.ipynb?token=abc"
    assert lab.lab_address(7, notebook) == address
    assert lab.lab_address(7, tmp_path / "a.ipynb") == "http://127.0.0.1:8889/lab?token=abc"
    lab._say_address(SimpleNamespace(pid=7, poll=lambda: None), ["python", "-m", "jupyterlab", str(notebook)])
    assert capsys.readouterr().out == f"Open: {address}\n"
    lab._say_address(SimpleNamespace(pid=8, poll=lambda: 1), ["python", str(notebook)])  # it ended
    assert capsys.readouterr().out == ""
