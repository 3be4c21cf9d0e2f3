"""On what a run runs, and what of that can change its numbers."""

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from replicate.errors import BadParameter, Missing, Unavailable
from replicate.numerics import computes_in_bfloat16
from replicate.paths import ROOT

DEVICES = ("auto", "cpu", "cuda")
PACKAGES = ("torch", "jax", "numpy", "scipy", "pandas")


def device() -> str:
    """ "cpu" or "cuda", as REPLICATE_DEVICE asks ("auto" if unset: CUDA where it is).

    Raises BadParameter on another value and Unavailable if CUDA is asked for and not there.
    """
    asked = os.environ.get("REPLICATE_DEVICE") or "auto"
    if asked not in DEVICES:
        raise BadParameter(f"device must be one of {', '.join(DEVICES)}, got {asked!r}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise Unavailable(
            "device 'cuda' was asked for and this machine has none; "
            "leave out --device or say --device cpu"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def jobs() -> int:
    """How many runs go side by side: REPLICATE_JOBS, else 1 on CUDA and 1 per core elsewhere.

    Raises BadParameter unless the variable is a whole number of at least 1.
    """
    count = os.environ.get("REPLICATE_JOBS")
    if count is None:
        return 1 if device() == "cuda" else _cores()
    if not count.isdecimal() or int(count) < 1:
        raise BadParameter(f"REPLICATE_JOBS must be a whole number of at least 1, got {count!r}")
    return int(count)


def _cores() -> int:
    """Cores that this process may use; all of them where the system cannot say, as macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def numerics(settings, device: str) -> dict:
    """The class of machines and modes within which a run's bits are promised."""
    half = computes_in_bfloat16(getattr(settings, "precision", "float32"), device)
    return {
        "device": torch.cuda.get_device_name()
        if device == "cuda"
        else torch.backends.cpu.get_cpu_capability(),
        "precision": "bfloat16" if half else "float32",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "denormals": "flushed",
        "lanes": getattr(settings, "lanes", 1),
        **{name: ".".join(versions()[name].split(".")[:2]) for name in ("torch", "jax")},
    }


def device_name(device: str) -> str:
    """What a reader of a verdict sees: the GPU's name, or the processor's instruction set."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@functools.cache
def commit() -> tuple[str, bool]:
    """(commit, whether the tree differs from it): from git, else REPLICATE_COMMIT.

    Only a git repository whose top level is this tree is asked: one around it knows nothing of this
    code. Raises Missing without either; a run is then recorded as unknown and changed.
    """
    try:
        top = Path(_git("rev-parse", "--show-toplevel"))
        if top.resolve() == ROOT.resolve():
            return _git("rev-parse", "HEAD")[:12], bool(_git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        pass
    if named := os.environ.get("REPLICATE_COMMIT"):
        return named[:12], False
    raise Missing(
        f"the commit of the code in {ROOT} is not known: "
        "run in a git checkout or set REPLICATE_COMMIT"
    )


def _git(*words: str) -> str:
    """What git answers in this tree, without the last line feed."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Exact versions of what computes, and of Python."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found
