"""Environments for a wheel that is tried: empty ones, and the distributions that its metadata ask for."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2])"
LEFT_OUT = {".git", ".venv", ".venv-browser", "_docs", "build", "dist", "runs", "explore", "tests", "docs", ".percent"}


def copy_checkout(root: Path, target: Path) -> None:
    "A checkout without its history, its environments and what no package is made of."

    def left_out(folder: str, names: list[str]) -> set[str]:
        ended = {name for name in names if name == "__pycache__" or name.endswith(".egg-info")}
        return ended | (LEFT_OUT & set(names) if Path(folder) == root else set())

    shutil.copytree(root, target, ignore=left_out)


def build(kind: str, source: Path, out: Path) -> Path:
    "The `sdist` or `wheel` of a folder with setup.py, built as pip would, by the setuptools that is here."
    out.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", BUILD, kind, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    [made] = out.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return made


def needed(dist: Distribution, extras: Sequence[str] = ()) -> list[Distribution]:
    "All distributions that one asks for with these extras, and those that they ask for; they are installed here."
    found: dict[str, Distribution] = {}
    asked = [(line, tuple(extras)) for line in dist.requires or ()]
    seen = set()
    while asked:
        line, wanted = asked.pop()
        requirement = Requirement(line)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in (*wanted, "")):
            continue
        key = canonicalize_name(requirement.name), tuple(sorted(requirement.extras))
        if key not in seen:
            seen.add(key)
            found[key[0]] = distribution(requirement.name)
            assert requirement.specifier.contains(found[key[0]].version, prereleases=True), line
            asked += [(line, key[1]) for line in found[key[0]].requires or ()]
    return list(found.values())


def lay_distributions(distributions: Iterable[Distribution], site: Path) -> None:
    "Links in `site` to what these distributions installed here, so that nothing else of this environment is seen."
    here = Path(sysconfig.get_paths()["purelib"])
    for dist in distributions:
        for top in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(here / top)


@dataclass
class Installed:
    "An environment in `folder` in which the workbench is installed; its commands run in an empty folder beside it."

    folder: Path

    @classmethod
    def make(cls, folder: Path, wheel: Path, python: str = sys.executable) -> "Installed":
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
        env = cls(folder)
        uv = [str(Path(sys.executable).parent / "uv"), "pip", "install", "-q", "--offline", "--no-deps"]
        done = subprocess.run(
            [*uv, "--python", str(folder / "bin" / "python"), str(wheel)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return env

    @property
    def site(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder), "platbase": str(self.folder)}))

    @property
    def work(self) -> Path:
        return self.folder.parent / "work"

    @property
    def metadata(self) -> Path:
        return next(self.site.glob("covid_workbench-*.dist-info"))

    def _run(self, *words: str) -> subprocess.CompletedProcess:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVID_", "VIRTUAL"))
        }
        kept |= {"PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(words, cwd=self.work, env=kept, capture_output=True, text=True, timeout=1200)

    def command(self, *words: str) -> subprocess.CompletedProcess:
        "`covid-workbench` with these words."
        return self._run(str(self.folder / "bin" / "covid-workbench"), *words)

    def python(self, code: str) -> subprocess.CompletedProcess:
        "A program in this environment."
        return self._run(str(self.folder / "bin" / "python"), "-c", code)
