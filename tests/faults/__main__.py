"""`python -m tests.faults`: many hostile inputs, a line of progress, a summary by class; exit 1 where one failed."""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from .base import RULES, short
from .material import Material
from .session import make_try, remove, reproduce, shown, tries


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--only", type=int, metavar="N", help="make this try alone and show its input and output")
    parser.add_argument("--keep", action="store_true", help="with --only: leave the scratch folder there")
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--kind", help="the tries of this class alone")
    parser.add_argument("--material", help="a folder for the reference material, to use it again")
    return parser.parse_args()


def _work(root: Path, seed: int, numbers: list[int], queue) -> None:
    "One process: its tries, reported through the queue."
    material = Material(root)
    for result in tries(material, seed, numbers):
        failure = {
            "number": result.number,
            "rule": result.rule,
            "input": result.one.input,
            "wrong": result.wrong,
        }
        queue.put((result.kind, result.verdict, result.outcome.seconds, failure if result.wrong else None))
    queue.put(None)


def _numbers(args: argparse.Namespace) -> list[int]:
    kinds = sorted({one.kind for one in RULES})
    numbers = range(args.first, args.first + args.tries)
    return [number for number in numbers if args.kind in (None, kinds[number % len(kinds)])]


def _run(args: argparse.Namespace, root: Path) -> tuple[Counter, list[dict], Counter]:
    "All tries over all processes: (class, verdict) -> number, failures, seconds by class."
    Material(root)
    context, numbers = multiprocessing.get_context("fork"), _numbers(args)
    queue, counts, failures, seconds, began = context.Queue(), Counter(), [], Counter(), time.monotonic()
    workers = [
        context.Process(target=_work, args=(root, args.seed, numbers[first :: args.processes], queue))
        for first in range(args.processes)
    ]
    for worker in workers:
        worker.start()
    open_ends = len(workers)
    while open_ends:
        report = queue.get()
        if report is None:
            open_ends -= 1
            continue
        kind, verdict, took, failure = report
        counts[kind, verdict] += 1
        seconds[kind] += took
        if failure:
            failures.append(failure | {"kind": kind})
            print(
                f"\r#{failure['number']} {kind}/{failure['rule']}: {failure['input']}: {failure['wrong'][0]}",
                flush=True,
            )
        done, minutes = counts.total(), (time.monotonic() - began) / 60
        if sys.stderr.isatty() or done % 50 == 0:
            print(f"\r{done}/{len(numbers)} tries, {len(failures)} failed, {minutes:.1f} min ", end="", file=sys.stderr)
    print(file=sys.stderr)
    return counts, failures, seconds


def _summary(counts: Counter, seconds: Counter) -> str:
    lines = [f"{'class':14s} {'tries':>6s} {'refused':>8s} {'fine':>6s} {'failed':>7s} {'s a try':>8s}"]
    for kind in sorted({kind for kind, _ in counts}):
        total = sum(counts[kind, verdict] for verdict in ("refused", "fine", "failed"))
        figures = [counts[kind, verdict] for verdict in ("refused", "fine", "failed")]
        lines.append("{:14s} {:6d} {:8d} {:6d} {:7d} {:8.2f}".format(kind, total, *figures, seconds[kind] / total))
    return "\n".join(lines)


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        root = Path(args.material or folder).resolve()
        root.mkdir(parents=True, exist_ok=True)
        if args.only is not None:
            result = make_try(Material(root), args.seed, args.only, keep=args.keep)
            print(shown(result))
            return 1 if result.wrong else 0
        counts, failures, seconds = _run(args, root)
        for path in root.glob("try-*"):
            remove(path)
    print(f"\nseed {args.seed}\n{_summary(counts, seconds)}")
    for failure in sorted(failures, key=lambda one: (one["kind"], one["rule"], one["number"])):
        print(f"\n{failure['kind']}/{failure['rule']}: {reproduce(args.seed, failure['number'])}")
        print("\n".join(f"    {short(line, 400)}" for line in (failure["input"], *failure["wrong"])))
    if os.environ.get("FAULTS_JSON"):
        Path(os.environ["FAULTS_JSON"]).write_text(json.dumps(failures, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
