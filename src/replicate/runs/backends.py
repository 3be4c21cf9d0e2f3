"""Where an experiment computes: the device of the framework that its code uses, torch or jax.

jax may be built for the CPU alone beside a torch that has CUDA, so each framework is asked itself.
"""

import functools
import os
from collections.abc import Callable

from replicate.errors import Unavailable
from replicate.runs import machine, ranks
from replicate.runs.digest import packages_of

FRAMEWORKS = ("torch", "jax")


def frameworks_of(function: Callable) -> list[str]:
    """The frameworks that an experiment's code uses: torch, jax, both or none."""
    used = packages_of(function)
    return [name for name in FRAMEWORKS if name in used]


def device_for(function: Callable) -> str:
    """ "cpu" or "cuda": where an experiment's torch computes, else its jax; "cpu" without both.

    From now on its jax computes where REPLICATE_DEVICE says. Raises BadParameter or Unavailable as
    `machine.device` does.
    """
    devices = [device_of(name) for name in frameworks_of(function)]
    return devices[0] if devices else "cpu"


def device_of(framework: str) -> str:
    """ "cpu" or "cuda": where a framework computes in this process, as REPLICATE_DEVICE asks."""
    if framework == "torch":
        return machine.device()
    device = _device_of_jax()
    return "cpu" if device is None or device.platform == "cpu" else "cuda"


def name_of(function: Callable) -> str:
    """What a reader of a verdict sees: the GPU's name, or the processor's instruction set.

    Where two frameworks compute on two devices, both, as in "torch: NVIDIA H100, jax: x86_64
    AVX512 with AMX".
    """
    names = {name: _name(name) for name in frameworks_of(function)}
    return ranks.name_device(_together(names, _name("numpy")))


def numerics(function: Callable, settings) -> dict:
    """The class of machines and modes within which the bits of a run are promised."""
    frameworks = frameworks_of(function)
    capability = _together({name: _capability(name) for name in frameworks}, _capability("numpy"))
    return machine.numerics(settings, device_for(function)) | {"device": capability}


def _together(names: dict[str, str], otherwise: str) -> str:
    if len(set(names.values())) > 1:
        return ", ".join(f"{framework}: {name}" for framework, name in names.items())
    return next(iter(names.values()), otherwise)


def _name(framework: str) -> str:
    return _capability(framework) if _is_on_cuda(framework) else machine.device_name("cpu")


def _capability(framework: str) -> str:
    """The name of the GPU, or the instruction set of the processor."""
    if not _is_on_cuda(framework):
        return machine.capability("cpu")
    return machine.capability("cuda") if framework == "torch" else _device_of_jax().device_kind


def _is_on_cuda(framework: str) -> bool:
    return framework in FRAMEWORKS and device_of(framework) == "cuda"


def _device_of_jax():
    """The device on which jax computes from now on; None where jax is not installed.

    Raises BadParameter or Unavailable as `machine.device` does.
    """
    return _set_device_of_jax(machine.read_request())


@functools.cache
def _jax():
    # torch computes on the same GPU and needs memory there; jax takes what it needs, not 75 %.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import jax
    except ModuleNotFoundError:
        return None
    return jax


def _set_device_of_jax(word: str):
    jax = _jax()
    if jax is None:
        return None
    if word == "cpu":
        jax.config.update("jax_platforms", "cpu")  # before its first use: then CUDA is left alone
    try:
        device = jax.devices("cpu" if word == "cpu" else None)[0]
    except RuntimeError as error:
        raise Unavailable(f"jax has no device ({str(error).splitlines()[0]})") from None
    if word == "cuda" and device.platform != "gpu":
        raise Unavailable(
            "device 'cuda' was asked for and jax has none; install the extra gpu or say --device cpu"
        )
    jax.config.update("jax_default_device", device if word == "cpu" else None)
    return device
