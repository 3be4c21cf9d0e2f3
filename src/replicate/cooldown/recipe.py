"""What a notebook can be told by words alone: where a reader's model is made, and a kernel by name."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from replicate import averaging
from replicate.errors import BadData, BadParameter, Missing, unknown
from replicate.runs.machine import DEVICE
from replicate.runs.machine import device as find_device

KERNEL_NAMES = ("swa", "two_point", "ema")
REQUIRED = ("model", "loss", "batches", "optimizer")
OPTIONAL = ("held_out", "schedule")


def load_recipe(name: str, device: str = "auto") -> dict[str, object]:
    """What the function `name`, "file.py:function" or "module:function", makes for a device.

    It takes "cpu" or "cuda" and gives a dict of `compare`'s arguments: REQUIRED, and any of OPTIONAL.
    torch's generator is at seed 0 when it is called, so that it makes the same model each time, and
    a comparison that was cut can go on. device: "auto" is CUDA where there is one. Raises
    BadParameter on another form or device, Unavailable if there is no CUDA, Missing if there is no
    such file, module or function, BadData if it gives anything else.
    """
    os.environ[DEVICE] = device
    device = find_device()
    home, colon, function = name.rpartition(":")
    if not colon or not home or not function:
        raise BadParameter(f"recipe must be file.py:function or module:function, got {name!r}")
    module = _load_file(Path(home)) if home.endswith(".py") else _load_module(home)
    if not callable(make := getattr(module, function, None)):
        raise Missing(f"{home} has no function {function!r}")
    torch.manual_seed(0)
    made = make(device)
    if not isinstance(made, dict) or not set(REQUIRED) <= set(made) <= {*REQUIRED, *OPTIONAL}:
        shown = sorted(made) if isinstance(made, dict) else type(made).__name__
        raise BadData(
            f"recipe {name!r} must give a dict of {', '.join(REQUIRED)}, and of {' or '.join(OPTIONAL)} "
            f"if it likes, got {shown}"
        )
    return made


def load_kernel(name: str) -> Callable[[int], np.ndarray]:
    """k -> mu by name: swa, two_point or ema. Raises BadParameter on another, with the nearest."""
    if name not in KERNEL_NAMES:
        raise unknown("kernel", name, KERNEL_NAMES)
    return getattr(averaging, name)


def _load_file(path: Path):
    path = path.expanduser()
    if not path.is_file():
        raise Missing(f"recipe {path} is not there")
    description = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    return module


def _load_module(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise Missing(f"recipe's module {name} is not there") from None
        raise
