"""Peak memory of a training step of ResNext+ on one volume, beside the estimate that is made before any is taken.

`python tests/heavy/volume_memory.py` takes the paper's step (50 slices of 224 x 224, ResNeXt-50, Adam), as it is and
with maps computed again, each in a process of its own; `--device cuda` asks the GPU. Exit code 1 where a step takes
more than the paper's 24 GB, or less than estimated.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from covid_workbench.models.detector import DetectorSettings
from covid_workbench.models.oneshot import VOLUME_MODEL, OneShotSettings
from covid_workbench.models.sizes import estimated_memory
from covid_workbench.models.zoo import create_model

GB = 2**30


def peak(device: torch.device) -> int:
    "Bytes: the most that this process has held; on a GPU the most that lay there."
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one_step(words: argparse.Namespace) -> dict[str, float]:
    "A step of Adam on one volume of random slices: seconds, bytes."
    device, torch_before = torch.device(words.device), peak(torch.device("cpu"))
    torch.manual_seed(0)
    settings = dict(recompute=words.recompute, volume_statistics=words.statistics)
    model = create_model(VOLUME_MODEL, words.backbone, **settings).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    shape = (1, words.slices, 3, words.size, words.size)
    slices, lungs = torch.randn(shape, device=device), torch.rand(shape[:2] + shape[3:], device=device) > 0.5
    started = time.monotonic()
    valid, labels = torch.ones(1, words.slices, device=device) > 0, torch.tensor([1], device=device)
    loss, _ = model.volume_loss(slices, lungs, valid, labels)
    loss.backward()
    optimizer.step()
    seconds = time.monotonic() - started
    taken = peak(device) - (torch_before if device.type == "cpu" else 0)
    return {"seconds": seconds, "taken": taken, "loss": loss.item()}


def main(words: argparse.Namespace) -> int:
    "Measure both ways, print a line for each; the exit code."
    wrong = 0
    settings = DetectorSettings(backbone=words.backbone), OneShotSettings(VOLUME_MODEL, hidden_size=512)
    for recompute in (False, True):
        own = [sys.executable, __file__, "--one", *(f"--{name}={getattr(words, name)}" for name in OPTIONS)]
        done = subprocess.run([*own, *["--recompute"] * recompute], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        estimate = estimated_memory(*settings, words.size, words.slices, recompute)
        wrong += not 0.8 * estimate <= found["taken"] <= 24 * GB
        print(
            f"recompute={str(recompute).lower():5s} {found['taken'] / GB:6.2f} GB taken, {estimate / GB:6.2f} GB "
            f"estimated, {found['seconds']:7.1f} s, loss {found['loss']:.9f}",
            flush=True,
        )
    return int(wrong > 0)


OPTIONS = {"device": "cpu", "backbone": "resnext50_32x4d", "statistics": "volume", "slices": 50, "size": 224}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in OPTIONS.items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--recompute", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one_step(chosen)))
    else:
        sys.exit(main(chosen))
