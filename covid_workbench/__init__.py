"""Research workbench for one-shot chest-CT models: lesions and the class of a slice from the same regions of interest.

`import covid_workbench as cw` is the front door; its names are loaded when they are first used. Research software, not
a medical device.
"""

__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covid_workbench.api import (
        Answers,
        AttentionTable,
        OpenRun,
        VolumeAnswers,
        check_data,
        compare_volumes,
        create_model,
        list_models,
        open_run,
        open_slices,
        phantom,
        register_model,
        run_study,
        train,
    )
    from covid_workbench.errors import InputError, StorageError, WorkbenchError
    from covid_workbench.runs.experiment import Experiment

__all__ = [
    "Answers",
    "AttentionTable",
    "Experiment",
    "InputError",
    "OpenRun",
    "StorageError",
    "VolumeAnswers",
    "WorkbenchError",
    "check_data",
    "compare_volumes",
    "create_model",
    "list_models",
    "open_run",
    "open_slices",
    "phantom",
    "register_model",
    "run_study",
    "train",
]

_HOME = {"Experiment": "runs.experiment"} | dict.fromkeys(("InputError", "StorageError", "WorkbenchError"), "errors")


def __getattr__(name: str) -> Any:
    "A public name from the module that defines it (PEP 562)."
    if name not in __all__:
        raise AttributeError(f"module 'covid_workbench' has no attribute '{name}'")
    value = getattr(import_module(f"covid_workbench.{_HOME.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
