"""How many planted faults the audit finds, and how often it cries wolf: `make test-audit` (minutes).

Prints a table of rules; ends with an error below a recall of 0.99, or above 1 % of false alarms on clean sets.
"""

import argparse
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from covid_workbench.progress import progress_bar
from tests.planted import FAULTS, RULES, alarms, choose, clean_set, spoil


def one_set(seed: int) -> tuple[int, list[str], set[str]]:
    "Seed, the faults that were planted, and the rules that fired."
    with tempfile.TemporaryDirectory() as folder:
        table, faults = clean_set(Path(folder) / "set", seed), choose(seed)
        return seed, faults, alarms(spoil(table, faults, seed))


def main(sets: int, first: int, processes: int) -> int:
    planted, found, wolf, clean, missed = Counter(), Counter(), Counter(), 0, []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        answers = pool.map(partial(one_set), range(first, first + sets))
        for seed, faults, fired in progress_bar(answers, total=sets, desc="sets", unit="set"):
            clean += not faults
            wolf.update(fired if not faults else ())
            for name in faults:
                planted[name] += 1
                found[name] += FAULTS[name][0] in fired
                missed += [(seed, name, sorted(fired))] * (FAULTS[name][0] not in fired)
    print(f"{'fault':18}{'rule':24}{'planted':>8}{'found':>8}")
    for name, count in sorted(planted.items()):
        print(f"{name:18}{FAULTS[name][0]:24}{count:8}{found[name]:8}")
    recall = sum(found.values()) / max(1, sum(planted.values()))
    false = sum(wolf.values()) / max(1, clean * len(RULES))
    print(f"{sum(planted.values())} faults in {sets - clean} sets, recall {recall:.3f}")
    print(f"{len(RULES)} rules on {clean} clean sets, false alarms {false:.2%}: {dict(wolf)}")
    for one in missed:
        print("missed: seed {}, {}; fired: {}".format(*one))
    return 0 if recall >= 0.99 and false <= 0.01 else 1


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--sets", type=int, default=200)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--processes", type=int, default=1)
    given = words.parse_args()
    sys.exit(main(given.sets, given.seed, given.processes))
