"""How long every rule of the audit takes over a table of the size of COVIDx-CT's training set, with simulated facts.

`python tests/heavy/bench_audit.py [SLICES]` prints seconds a rule and what it says; nothing is read from disk.
"""

import sys
import time

import numpy as np
import pandas as pd

from covid_workbench.data import audit  # noqa: F401  registers the rules
from covid_workbench.data.findings import RULES, Audited
from covid_workbench.data.slice_facts import FACTS
from covid_workbench.data.slices import SliceTable

SLICES, PATIENTS = 61_782, 864  # of COVIDx-CT v1, training
CLASSES = ("Normal", "CP", "COVID-19")


def simulated(slices: int, seed: int = 0) -> tuple[SliceTable, pd.DataFrame]:
    "A table of patients with many slices, and facts that have nothing to do with the class."
    random = np.random.default_rng(seed)
    patient = np.sort(random.integers(PATIENTS, size=slices))
    number = pd.Series(patient).groupby(patient).cumcount()
    frame = pd.DataFrame(
        {
            "id": [f"p{who}_{k}" for who, k in zip(patient, number)],
            "patient": [f"p{who}" for who in patient],
            "index": number,
            "image": [f"{who}/{k}.png" for who, k in zip(patient, number)],
            "label": np.array(CLASSES)[patient % 3],
            "split": np.array(["train", "train", "test"])[patient // 3 % 3],
        }
    )
    own = {name: [value] * slices for name, value in FACTS.items()}
    own |= {"kind": "PNG", "mode": "L", "bits": 8, "width": 512, "height": 512}
    own |= {"grey_low": random.integers(3, size=slices), "grey_high": 240 + random.normal(0, 4, PATIENTS)[patient]}
    own |= {name: [f"{value:0{digits}x}" for value in random.integers(2**62, size=slices)]
            for name, digits in (("sha256", 64), ("pixels_sha256", 64), ("phash", 16))}  # fmt: skip
    own["outside"] = list(random.integers(0, 256, (slices, 256), dtype=np.uint8).tolist())
    return SliceTable(frame, "nowhere", "simulated"), pd.DataFrame(own)


def main() -> None:
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else SLICES
    table, facts = simulated(slices)
    for whole in (False, True):
        total = 0.0
        for name, function in RULES.items():
            if not whole and not function.short:
                continue
            started = time.process_time()
            found = list(function(Audited(table, facts, whole=whole)))
            total += (seconds := time.process_time() - started)
            print(f"{seconds:7.1f} s  {name}: " + ("; ".join(str(one)[:150] for one in found) or "quiet"), flush=True)
        print(f"{total:7.1f} s  {'whole' if whole else 'short'} form over {len(table):,} slices\n", flush=True)


if __name__ == "__main__":
    main()
