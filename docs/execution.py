"""Executing notebooks and examples, two at a time, with a cache keyed by their code and by the modules it reaches."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

HERE = Path(__file__).parent
WORKERS = 2
TIMEOUT = 600  # seconds a cell may take
PACKAGE = "covid_workbench"
MODULE = re.compile(rf"{PACKAGE}(?:\.\w+)+")
RELATIVE = re.compile(r"^(\s*)from (\.+)([\w.]*) import", re.MULTILINE)
WHOLE = re.compile(rf"\bfrom {PACKAGE} import|\bimport {PACKAGE}\b(?!\.)")


class BuildError(Exception):
    "Something that ends the build; the message says what and where."


@dataclass(frozen=True)
class Job:
    "Something to make once: `make(target)` writes `target`, whose name holds the key of its sources."

    name: str
    target: Path
    make: Callable[[Path], None]


@dataclass(frozen=True)
class Sources:
    "The package's modules by name with their text, and one hash of all that every execution depends on."

    modules: dict[str, str]
    common: str

    def below(self, source: str) -> set[str]:
        "The modules that code reaches by what it names, directly or through others; all where that is unknown."
        found, waiting = set(), [source]
        while waiting:
            text = waiting.pop()
            named = {name for name in MODULE.findall(text) if name in self.modules} - found
            found |= named
            waiting += [self.modules[name] for name in named]
            if WHOLE.search(source) or f"{PACKAGE}.headless" in found:  # that runs notebooks, which may use anything
                return set(self.modules)
        return found

    def key(self, source: str) -> str:
        "A hash of code and of every module that it reaches."
        texts = [self.common, source, *(self.modules[name] for name in sorted(self.below(source)))]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def absolute_imports(text: str, module: str) -> str:
    "The text of `module` with the imports that nbdev made relative spelt out, so that they can be followed."

    def spelt_out(match: re.Match) -> str:
        folder = module.split(".")[: -len(match[2])]
        return f"{match[1]}from {'.'.join([*folder, *filter(None, [match[3]])])} import"

    return RELATIVE.sub(spelt_out, text)


def read_sources(root: Path) -> Sources:
    "The sources of a checkout."
    files = [path for path in sorted((root / PACKAGE).rglob("*.py")) if path.name != "_modidx.py"]
    modules = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    common = [path for path in sorted((root / PACKAGE).rglob("*")) if path.suffix in {".js", ".css", ".csv"}]
    common += [root / "requirements.lock", HERE / "prelude.py", *sorted((root / "nbs" / "studies").glob("*.ipynb"))]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in common)).hexdigest()
    texts = {name: absolute_imports(path.read_text(encoding="utf-8"), name) for name, path in modules.items()}
    return Sources(texts, key)


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def notebook_job(name: str, notebook: dict, cache: Path, sources: Sources) -> Job:
    "Execute a staged notebook; what is kept are the outputs of its code cells, in order."
    source = json.dumps([[cell["source"], cell["metadata"].get("tags")] for cell in code_cells(notebook)])
    target = cache / f"{name.replace('/', '--')}-{sources.key(source)}.json"
    return Job(name, target, lambda path: write_outputs(path, name, notebook))


def write_outputs(target: Path, name: str, notebook: dict) -> None:
    target.write_text(json.dumps(executed_outputs(name, notebook)), encoding="utf-8")


def executed_outputs(name: str, notebook: dict) -> list[list[dict]]:
    "Outputs of the code cells of a notebook, run in an empty folder. Raises `BuildError` naming a failed cell."
    run = nbformat.from_dict(json.loads(json.dumps(notebook)))
    prelude = nbformat.v4.new_code_cell((HERE / "prelude.py").read_text(encoding="utf-8"))
    run.cells.insert(0, prelude)
    folder = tempfile.mkdtemp(prefix="docs-")
    client = NotebookClient(run, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError, TimeoutError) as error:
        raise BuildError(f"{name}: {failure_of(run, error)}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [cell.outputs for cell in code_cells(run)[1:]]


def failure_of(notebook: dict, error: Exception) -> str:
    "Which cell failed, counted among code cells, and with what."
    for number, cell in enumerate(code_cells(notebook)):
        for output in cell.outputs:
            if output["output_type"] == "error":
                first = cell.source.strip().split("\n")[0]
                return f"code cell {number} ({cell.id}, `{first}`): {output['ename']}: {output['evalue']}"
    return f"{type(error).__name__}: {str(error).strip()[-400:]}"


def script_job(name: str, script: Path, cache: Path, sources: Sources) -> Job:
    "Run a script with a folder as its argument; what it leaves there is kept."
    target = cache / f"{name}-{sources.key(script.read_text(encoding='utf-8'))}"
    return Job(name, target, lambda path: run_script(script, path))


def run_script(script: Path, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    done = subprocess.run([sys.executable, str(script), str(part)], capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{script.name} failed:\n{done.stderr[-2000:]}")
    part.rename(target)


def prepare_environment() -> None:
    "What kernels inherit: bars as text (they go to the error stream), figures as data, an equal share of the cores."
    os.environ["COVID_WORKBENCH_PROGRESS"] = "text"
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
    root = str(HERE.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))


def run_jobs(jobs: Sequence[Job], say: Callable[[str], None] = print) -> None:
    "Make what is not there yet, two at a time. Raises `BuildError` with every failure once all have been tried."
    waiting = [job for job in jobs if not job.target.exists()]
    say(f"{len(jobs) - len(waiting)} of {len(jobs)} unchanged since they were last executed, {len(waiting)} to execute")
    failures = []
    with ThreadPoolExecutor(WORKERS) as pool:
        started = {pool.submit(timed, job): job for job in waiting}
        for number, done in enumerate(as_completed(started), 1):
            job = started[done]
            error = done.exception()
            if error is None:
                say(f"  {number:3d}/{len(waiting)} {job.name} {done.result():.0f} s")
                continue
            say(f"  {number:3d}/{len(waiting)} {job.name} FAILED")
            failures.append(str(error) if isinstance(error, BuildError) else f"{job.name}: {error!r}")
    if failures:
        raise BuildError("\n".join(failures))


def timed(job: Job) -> float:
    start = time.monotonic()
    job.target.parent.mkdir(parents=True, exist_ok=True)
    job.make(job.target)
    return time.monotonic() - start


def forget_old(cache: Path, jobs: Sequence[Job]) -> None:
    "Remove what no job of this build made or used."
    kept = {job.target.name for job in jobs}
    for path in cache.iterdir() if cache.exists() else ():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
