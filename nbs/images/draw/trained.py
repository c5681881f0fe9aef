"""The numbers of a trained model that three pictures are drawn from.

The last digits of trained weights differ between processors. So the numbers are kept in `trained.json`, which is
committed, and `make pictures` draws from that file. `make pictures-train` makes it anew, in about two minutes.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

NUMBERS = Path(__file__).parent / "trained.json"


@cache
def numbers() -> dict[str, Any]:
    "`settings` of the run; the `way` of one slice through the model; `precision_recall` on the test patients."
    return json.loads(NUMBERS.read_text())
