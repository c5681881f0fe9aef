"""Builds the documentation site into `_docs`: stage, execute, write pages, Sphinx, check links. No network is used.

`python docs/build.py PATTERN ...` executes only notebooks whose path holds one of the patterns;
the others are shown without outputs.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import plotly
from execution import (
    BuildError,
    forget_old,
    notebook_job,
    prepare_environment,
    read_sources,
    run_jobs,
    script_job,
)
from links import check_site
from pages import Site, stage_all, write_examples, write_pages
from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "docs"
OUT = ROOT / "_docs"


def say(text: str) -> None:
    print(text, flush=True)


def execute(site: Site, patterns: list[str]) -> tuple[dict[str, list[list[dict]]], Path]:
    "Outputs of every notebook, executed or from the cache, and the folder of the examples."
    sources, cache = read_sources(ROOT), BUILD / "cache"
    jobs = {
        name: notebook_job(name, notebook, cache, sources)
        for name, notebook in site.staged.items()
        if not patterns or any(pattern in name for pattern in patterns)
    }
    examples = script_job("examples", HERE / "examples.py", cache, sources)
    everything = [examples, *jobs.values()]
    run_jobs(everything, say)
    if not patterns:
        forget_old(cache, everything)
    outputs = {name: json.loads(job.target.read_text(encoding="utf-8")) for name, job in jobs.items()}
    return {name: outputs.get(name, []) for name in site.staged}, examples.target


def run_sphinx() -> None:
    "Sphinx over the staged sources. A warning is an error, after which no half-made site is left for the next build."
    (BUILD / "extra").mkdir(parents=True, exist_ok=True)
    words = ["-q", "-W", "--keep-going", "-j", "2", "-b", "html", "-c", HERE, "-d", BUILD / "doctrees"]
    if build_main([str(word) for word in (*words, BUILD / "source", OUT)]):
        shutil.rmtree(OUT, ignore_errors=True)
        raise BuildError("Sphinx warned; see above")


def add_plotly() -> None:
    "Plotly's script from its wheel."
    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    target = OUT / "_static" / script.name
    if not target.exists():
        shutil.copy(script, target)


def build(patterns: list[str]) -> None:
    start = time.monotonic()
    prepare_environment()
    site = Site(ROOT / "nbs", BUILD / "source", BUILD / "extra")
    stage_all(site)
    outputs, examples = execute(site, patterns)
    shutil.rmtree(site.extra / "live", ignore_errors=True)
    write_examples(site, examples)
    write_pages(site, outputs)
    say("Sphinx")
    run_sphinx()
    add_plotly()
    broken = check_site(OUT)
    if broken:
        raise BuildError("\n".join(broken))
    size = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    seconds = time.monotonic() - start
    say(f"{OUT / 'index.html'}: {size / 1e6:.0f} MB in {seconds:.0f} s; every link leads somewhere")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", help="execute only these notebooks (parts of their paths)")
    try:
        build(parser.parse_args().patterns)
    except BuildError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
