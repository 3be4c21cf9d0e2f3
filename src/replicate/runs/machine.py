"""On what a run runs, and what of that can change its numbers."""

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from replicate.errors import BadParameter, Missing, Unavailable
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
            "device 'cuda' was asked for and this machine has none; leave out --device or say --device cpu"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def jobs() -> int:
    """How many runs go side by side: REPLICATE_JOBS, else one on CUDA and one a core elsewhere."""
    asked = os.environ.get("REPLICATE_JOBS")
    if asked is None:
        return 1 if device() == "cuda" else len(os.sched_getaffinity(0))
    if not asked.isdecimal() or int(asked) < 1:
        raise BadParameter(f"REPLICATE_JOBS must be a whole number of at least 1, got {asked!r}")
    return int(asked)


def gains_by_bfloat16(device: str) -> bool:
    """Whether bfloat16 is faster than float32 here: on CUDA, and on CPUs with AMX tiles (2.5x on a ResNet-8)."""
    if device == "cuda":
        return True
    return bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False))


def numerics(settings, device: str) -> dict:
    """The class of machines and modes within which a run's bits are promised."""
    half = getattr(settings, "precision", "float32") == "bfloat16" and gains_by_bfloat16(device)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability(),
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
    """(commit, whether the tree differs from it): from git, else REPLICATE_COMMIT. Raises Missing without either."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
        return head.stdout.strip()[:12], bool(changed.stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        if named := os.environ.get("REPLICATE_COMMIT"):
            return named[:12], False
        raise Missing("the commit of this code is not known: run in a git checkout or set REPLICATE_COMMIT") from None


def versions() -> dict[str, str]:
    """Exact versions of what computes, and of Python."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


@functools.cache
def history() -> tuple[str, ...]:
    """Commits of this tree from the newest on, twelve digits each; empty outside a git checkout."""
    try:
        listed = subprocess.run(["git", "rev-list", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(line[:12] for line in listed.stdout.split())
