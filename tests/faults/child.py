"""A command in a forked child: own session, time and memory limits, output caught."""

import contextlib
import io
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from .base import Outcome, Try

GIB = 2**30
QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)  # as Python's own defaults


def command(words: Sequence[str]) -> int:
    "`covid-workbench` in this process."
    from covid_workbench.cli import main

    return main(words)


def run_try(one: Try, scratch: Path, run: Callable[[Sequence[str]], int] = command) -> Outcome:
    "Run the words of a try in a child of this process, which has imported the package already."
    started = time.monotonic()
    child = start_try(one, scratch, run)
    code, begun = _wait(child, one, started)
    return Outcome(code, *output_of(scratch), time.monotonic() - started, scratch, begun)


def start_try(one: Try, scratch: Path, run: Callable[[Sequence[str]], int] = command) -> int:
    "Start a try; the number of its process."
    output = scratch / ".output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    child = os.fork()
    if child == 0:
        _be_child(one, scratch, output, run)
    return child


def output_of(scratch: Path) -> tuple[str, str]:
    "What the last try in a folder has written to stdout and stderr."
    out, err = (scratch / ".output" / name for name in ("out", "err"))
    return tuple(path.read_bytes().decode("utf-8", "backslashreplace") for path in (out, err))


def _wait(child: int, one: Try, started: float) -> tuple[int | None, bool]:
    "The exit code of the child, None where it had to be ended; and whether the work of a try had begun."
    descriptor, begun = os.pidfd_open(child), None
    try:
        while time.monotonic() - started < one.limit and (begun is None or time.monotonic() - begun < one.patience):
            if select.select([descriptor], [], [], 0.2)[0]:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), begun is not None
            if begun is None and one.begun and one.begun.exists():
                begun = time.monotonic()
        _kill_family(child)
        os.waitpid(child, 0)
        return None, begun is not None
    finally:
        os.close(descriptor)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # what the command left running
            os.killpg(child, signal.SIGKILL)


def _kill_family(child: int) -> None:
    "End a child that takes too long, with the kernels and cells it has started."
    import psutil

    family = psutil.Process(child).children(recursive=True)
    os.killpg(child, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _be_child(one: Try, scratch: Path, output: Path, run: Callable[[Sequence[str]], int]) -> None:
    "The child's life; ends the process."
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _set_up(one, scratch, output)
        one.before()
        code = run([os.fspath(word) if isinstance(word, Path) else str(word) for word in one.words])
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code or 0)


def _set_up(one: Try, scratch: Path, output: Path) -> None:
    "Output into files, limits, environment, working folder: what a shell would do."
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "strict", write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
    sys.argv = ["covid-workbench", *map(str, one.words)]
    warnings.showwarning = lambda *about, **more: sys.stderr.write(warnings.formatwarning(*about[:4]))
    warnings.resetwarnings()
    for kind in QUIET:
        warnings.simplefilter("ignore", kind)
    _limit(resource.RLIMIT_AS, 12 * GIB)
    _limit(resource.RLIMIT_FSIZE, GIB)
    _limit(resource.RLIMIT_CORE, 0)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    os.environ.update({"TMPDIR": str(scratch / "tmp"), "HOME": str(scratch / "home")} | one.environment)
    tempfile.tempdir = None  # found anew, by the TMPDIR of the try
    os.chdir(scratch / one.cwd)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
