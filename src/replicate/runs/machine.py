"""On what a run runs, and what of that can change its numbers."""

import functools
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from replicate.errors import BadParameter, Missing, Unavailable
from replicate.paths import ROOT, data_folder
from replicate.progress import deadline
from replicate.runs import ranks

DEVICE = "REPLICATE_DEVICE"  # environment variable: one of DEVICES
COMMIT = (
    "REPLICATE_COMMIT"  # environment variable: what stands for git's answer where there is none
)
DEVICES = ("auto", "cpu", "cuda")
WORKERS = "REPLICATE_WORKERS"  # environment variable: a Dask scheduler's address, or a cluster file
AMX_NAMES = {True: " with AMX", False: " without AMX", None: ""}  # None: torch does not tell
REPORTED_PACKAGES = ("torch", "jax", "numpy", "scipy", "pandas")


def read_request() -> str:
    """The device that REPLICATE_DEVICE names, "auto" if it is unset. Raises BadParameter."""
    return check_word(os.environ.get(DEVICE) or "auto")


def check_word(word: object) -> str:
    """The word, if it is one of DEVICES. Raises BadParameter."""
    if not isinstance(word, str) or word not in DEVICES:
        raise BadParameter(f"device must be one of {', '.join(DEVICES)}, got {str(word)[:80]!r}")
    return word


def device() -> str:
    """ "cpu" or "cuda": where torch computes, as REPLICATE_DEVICE asks; "auto": CUDA where it is.

    Raises BadParameter on another value and Unavailable if CUDA is asked for and not there.
    """
    word = read_request()
    if word == "cpu":
        return word
    import torch

    if word == "cuda" and not torch.cuda.is_available():
        raise Unavailable(
            "device 'cuda' was asked for and this machine has none; "
            "leave out --device or say --device cpu"
        )
    return "cuda" if torch.cuda.is_available() else "cpu"


def jobs() -> int:
    """How many runs go side by side: REPLICATE_JOBS, else 1 on CUDA and 1 per core elsewhere.

    Raises BadParameter unless the variable is a whole number of at least 1.
    """
    return read_jobs() or (1 if device() == "cuda" else _cores())


def read_jobs() -> int | None:
    """The number in REPLICATE_JOBS, None if it is unset. Raises BadParameter."""
    text = os.environ.get("REPLICATE_JOBS")
    if text is None:
        return None
    if not re.fullmatch("0*[1-9][0-9]{0,5}", text, re.ASCII):
        raise BadParameter(
            f"REPLICATE_JOBS must be a whole number of at least 1, got {text[:80]!r}"
        )
    return int(text)


def workers() -> str:
    """Where runs go: the address of a Dask scheduler, a cluster file, or "" for this machine."""
    return os.environ.get(WORKERS, "")


def _cores() -> int:
    """Cores that this process may use; all of them where the system cannot say, as macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def numerics(settings, device: str) -> dict:
    """The class of machines and modes within which a run's bits are promised."""
    import torch

    from replicate.numerics import computes_in_bfloat16

    half = computes_in_bfloat16(getattr(settings, "precision", "float32"), device)
    return {
        "device": capability(device),
        "precision": "bfloat16" if half else "float32",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "denormals": "flushed",
        "lanes": getattr(settings, "lanes", 1),
        **{name: ".".join(versions()[name].split(".")[:2]) for name in ("torch", "jax")},
        **ranks.describe(),
    }


def device_name(device: str) -> str:
    """What a reader of a verdict sees: the GPU's name, or the processor's instruction set, and whether
    it multiplies matrices in tiles, which makes one AVX-512 processor several times as fast as another.
    """
    if device == "cuda":
        return capability(device)
    import torch

    tiles = getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16")
    return f"{platform.machine()} {capability(device)}{AMX_NAMES[tiles]}"


def capability(device: str) -> str:
    """The GPU's name, or the processor's instruction set, as torch tells them."""
    import torch

    return (
        torch.cuda.get_device_name()
        if device == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )


@functools.cache
def commit() -> tuple[str, bool]:
    """(commit, whether the tree differs from it): from git, else REPLICATE_COMMIT.

    Only a git repository whose top level is this tree is asked: one around it knows nothing of this
    code. Raises Missing without either; a run is then recorded as unknown and changed. Raises
    BadParameter where the variable is no commit.
    """
    try:
        top = Path(_git("rev-parse", "--show-toplevel"))
        if top.resolve() == ROOT.resolve():
            return _git("rev-parse", "HEAD")[:12], bool(_git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        pass
    if named := read_commit():
        return named, False
    raise Missing(
        f"the commit of the code in {ROOT} is not known: run in a git checkout or set {COMMIT}"
    )


def read_commit() -> str | None:
    """Twelve digits of the commit in REPLICATE_COMMIT, None if it is unset. Raises BadParameter."""
    named = os.environ.get(COMMIT)
    if not named:
        return None
    if not re.fullmatch("[0-9a-f]{7,64}", named):
        raise BadParameter(
            f"{COMMIT} must be 7 to 64 hexadecimal digits of a commit, got {named[:80]!r}"
        )
    return named[:12]


def check_variables() -> None:
    """Read every environment variable that a run will ask for. Raises BadParameter for the first that
    says nothing.
    """
    for read in (read_request, read_jobs, read_commit, deadline, data_folder):
        read()


def _git(*words: str) -> str:
    """What git answers in this tree, without the last line feed."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@functools.cache
def versions() -> dict[str, str]:
    """Exact versions of what computes, and of Python."""
    numbers = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            numbers[package] = ""
    return numbers


@functools.cache
def history() -> tuple[str, ...]:
    """Commits of this tree from the newest on, twelve digits each; empty outside a git checkout."""
    try:
        return tuple(line[:12] for line in _git("rev-list", "HEAD").splitlines())
    except (OSError, subprocess.CalledProcessError):
        return ()
