"""For the tests of studies: a tiny study as a file, a toy notebook, the shell, and a way to compare two studies."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
from conftest import TINY

from covid_workbench.studies.folder import StudyFolder

TINY_STUDY = {
    "name": "tiny",
    "question": "Does it run?",
    "axes": {"model": ["attention", "lstm2"]},
    "settings": TINY | {"checkpoint_minutes": 0},
    "tables": [
        {"title": "Slices", "rows": ["model"], "figures": ["weighted F1"], "published": ["lstm-attention-2022", "IV"]}
    ],
}
# a notebook with the parameters of one_run; its seed decides what it does
TOY = """
import json, os, pathlib, time
seed, run = int(settings.get("seed", 0)), pathlib.Path(folder)
run.mkdir(exist_ok=True)
if seed == 1:
    raise ValueError("no lesion in patient P7")
if seed == 2:
    time.sleep(300)
if seed == 3:
    held = bytearray(1500 * 2**20)
    time.sleep(300)
if seed == 4:
    os._exit(9)
if seed == 5 and not (run / "second").exists():
    (run / "second").touch()
    raise RuntimeError("works the second time")
gpu, threads = os.environ.get("CUDA_VISIBLE_DEVICES") or -1, os.environ["OMP_NUM_THREADS"]
figures = {"gpu": float(gpu), "threads": float(threads)}
scores = {"classification": None, "detection": None}
(run / "metrics.json").write_text(json.dumps({"parameters": 1, "figures": figures, "test": scores}))
"""


def toy_study(folder: Path, seeds) -> Path:
    "A study file whose cells are toys, one for each seed."
    cells = [
        nbformat.v4.new_code_cell(
            'preset, settings, folder, shared = "", {}, "", ""', metadata={"tags": ["parameters"]}
        ),
        nbformat.v4.new_code_cell(TOY),
    ]
    cells[0].source = 'preset = ""\nsettings = {}\nfolder = ""\nshared = ""'
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
        ),
        folder / "toy.ipynb",
    )
    return write_study(folder, {"name": "toys", "axes": {"seed": list(seeds)}, "notebook": str(folder / "toy.ipynb")})


def write_study(folder: Path, content: dict) -> Path:
    path = folder / "study.json"
    path.write_text(json.dumps(content, default=list))
    return path


def ablate(study, out: Path, *words, start: bool = False):
    "Run `covid-workbench ablate` as a program; the finished process, or with `start` the one just started."
    command = [
        str(Path(sys.executable).parent / "covid-workbench"),
        "ablate",
        str(study),
        "--out",
        str(out),
        "--no-estimate",
        "--no-notebook",
        *map(str, words),
    ]
    if start:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def finished_results(out: Path) -> dict[str, tuple]:
    "Name -> (key, metrics, weights) of every finished cell."
    return {
        cell.name: (cell.key, cell.metrics, (cell.folder / "run" / "weights.safetensors").read_bytes())
        for cell in StudyFolder.open(out).cells
        if cell.status == "finished"
    }
