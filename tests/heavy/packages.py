"""`make packages`: wheels of the lock for every system and Python, and the wheel of the sdist in real environments.

    python tests/heavy/packages.py             both, for every Python of settings.ini that is found here
    python tests/heavy/packages.py --lock      only whether each package of the lock has a wheel; nothing is installed

An environment takes 6 GB, hard links to uv's cache where that holds the wheels already.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from packages_kit import Installed, build, copy_checkout  # noqa: E402

UV = [str(Path(sys.executable).parent / "uv"), "pip", "install", "-q"]
SYSTEMS = {
    "Linux": "x86_64-manylinux_2_28",
    "macOS 14 arm64": "aarch64-apple-darwin",
    "Windows": "x86_64-pc-windows-msvc",
}
SETTINGS = ("phantom_patients=15", "phantom_slices=2", "phantom_size=64", "image_size=64", "anchor_sizes=6,12")


def pythons() -> list[str]:
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]["pythons"].split()


def python_here(version: str) -> str:
    "Where this Python is; empty where it is not, or where a version manager's word for it starts none."
    found = shutil.which(f"python{version}") or ""
    return found if found and not subprocess.run([found, "-c", ""], capture_output=True).returncode else ""


def lock_holds(python: str, system: str) -> str:
    "Empty where every package of the lock has a wheel for this Python and system; else what uv says."
    words = [*UV, "--dry-run", "--no-deps", "--only-binary", ":all:", "--python-version", python]
    with tempfile.TemporaryDirectory() as target:
        words += ["--python-platform", SYSTEMS[system], "--target", target, "-r", str(ROOT / "requirements.lock")]
        variables = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
        done = subprocess.run(words, capture_output=True, text=True, env=variables)
    return done.stderr.strip() if done.returncode else ""


def try_wheel(wheel: Path, python: str, folder: Path) -> None:
    "Install the wheel with the versions of the lock, once without extras and once with them, and use it."
    env = Installed.make(folder / "env", wheel, python=python)
    env.work.mkdir()
    for extras in ("", "[notebook,volumes]"):
        where = ["--python", str(folder / "env" / "bin" / "python"), "-c", str(ROOT / "requirements.lock")]
        subprocess.run([*UV, *where, f"covid_workbench{extras} @ file://{wheel}"], check=True)
        for words in (["models"], ["lab", "--dry-run"]):
            done = env.command(*words)
            assert done.returncode == (2 if words[0] == "lab" and not extras else 0), done.stderr
    done = env.command("train", "run", "--preset", "smoke", "--set", *SETTINGS)
    assert done.returncode == 0, done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", action="store_true")
    only_lock, bad = parser.parse_args().lock, 0
    for python in pythons():
        for system in SYSTEMS:
            why = lock_holds(python, system)
            bad += bool(why)
            print(f"lock, Python {python}, {system}: {why or 'every package has a wheel'}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        copy_checkout(ROOT, folder / "checkout")
        with tarfile.open(build("sdist", folder / "checkout", folder / "dist")) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        [unpacked] = (folder / "unpacked").iterdir()
        wheel = build("wheel", unpacked, folder / "wheel")
        for python in [] if only_lock else pythons():
            if found := python_here(python):
                try_wheel(wheel, found, folder / python)
            print(f"wheel, Python {python}: {'runs' if found else 'not found here, not tried'}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
