"""A notebook that papermill executed is trusted by nobody yet: JupyterLab still shows its pictures."""

import subprocess

from lab import ROOT, Lab
from playwright.sync_api import expect

EXECUTE = """
import json, sys
import nbformat
from covid_workbench.headless import execute_notebook
code = '''
import numpy as np
from IPython.display import HTML
from covid_workbench.reports.pictures import slice_picture
picture = slice_picture(np.full((64, 64), 90, np.uint8), regions=np.array([[8., 8, 30, 30]]), title="P1: COVID-19")
'''
cells = [nbformat.v4.new_code_cell("#", metadata={"tags": ["parameters"]})]
cells += map(nbformat.v4.new_code_cell, (code + "picture", "HTML(picture.svg)"))
kernel = {"name": "python3", "display_name": "python3", "language": "python"}
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), sys.argv[1])
execute_notebook(sys.argv[1], sys.argv[2], {})
"""


def test_pictures_of_an_untrusted_notebook(lab: Lab, tmp_path):
    done = lab.server.folder / "done.ipynb"
    subprocess.run([str(ROOT / ".venv/bin/python"), "-c", EXECUTE, str(tmp_path / "it.ipynb"), str(done)], check=True)
    lab.open("done.ipynb")
    outputs = lab.page.locator(".jp-OutputArea-output")
    picture = outputs.locator("img[alt='P1: COVID-19']")
    expect(picture).to_be_visible(timeout=30000)
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 360
    assert "P1: COVID-19" not in outputs.nth(0).inner_text()
    assert lab.page.locator(".jp-OutputArea-output svg").count() == 0  # what inline SVG becomes: its words
    assert "P1: COVID-19" in outputs.nth(1).inner_text()
