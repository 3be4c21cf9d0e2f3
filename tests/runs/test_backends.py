"""Each framework is asked itself where it computes, and that is what is recorded."""

import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from replicate import paths, runs
from replicate.errors import Unavailable
from replicate.runs import backends, machine
from replicate.runs.tables import provenance_of
from replicate.sources.sandler2023trajectories.settings import Settings

GPU = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100 80GB HBM3")
CPU = SimpleNamespace(platform="cpu", device_kind="cpu")


class Config(dict):
    """What jax was told, by name."""

    update = dict.__setitem__


def jax_with(*devices):
    """A jax of which `devices` are the backend's."""

    def list_devices(platform=None):
        if platform == "cpu":
            return [CPU]
        return list(devices)

    return SimpleNamespace(config=Config(), devices=list_devices)


@pytest.fixture
def jax(monkeypatch):
    """`jax(*devices)` is the jax of this test; torch has a GPU and so has the caller's wish."""

    def installed(*devices):
        backends._jax.cache_clear()
        fake = jax_with(*devices)
        monkeypatch.setitem(sys.modules, "jax", fake if devices else None)
        return fake

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100")
    monkeypatch.delenv(machine.DEVICE, raising=False)
    yield installed
    backends._jax.cache_clear()


@pytest.fixture
def uses(monkeypatch):
    """`uses("jax")`: what the experiment's code uses."""
    return lambda *names: monkeypatch.setattr(backends, "packages_of", lambda _: {"numpy", *names})


def experiment(settings):
    """An experiment of this test."""
    return pd.DataFrame({"loss": [0.0]})


def test_a_jax_for_the_cpu_beside_a_torch_with_cuda_is_recorded_as_the_cpu(jax, uses):
    jax(CPU)
    uses("jax")
    assert backends.device_for(experiment) == "cpu"
    assert backends.name_of(experiment) == machine.device_name("cpu")
    assert backends.numerics(experiment, Settings())["device"] == machine.capability("cpu")


def test_a_jax_with_cuda_is_recorded_by_the_name_of_its_gpu(jax, uses):
    jax(GPU)
    uses("jax")
    assert backends.device_for(experiment) == "cuda"
    assert backends.name_of(experiment) == GPU.device_kind
    assert backends.numerics(experiment, Settings())["device"] == GPU.device_kind


def test_torch_is_not_asked_of_jax(jax, uses):
    jax(CPU)
    uses("torch")
    assert (backends.device_for(experiment), backends.name_of(experiment)) == (
        "cuda",
        "NVIDIA H100",
    )


def test_two_frameworks_on_two_devices_are_both_named(jax, uses):
    jax(CPU)
    uses("torch", "jax")
    names = f"torch: NVIDIA H100, jax: {machine.device_name('cpu')}"
    assert (backends.device_for(experiment), backends.name_of(experiment)) == ("cuda", names)


def test_what_uses_neither_ran_on_the_processor(jax, uses):
    jax(GPU)
    uses()
    assert backends.device_for(experiment) == "cpu"
    assert backends.name_of(experiment) == machine.device_name("cpu")


def test_jax_is_kept_off_the_gpu_where_the_cpu_is_wanted_and_let_on_it_again(
    jax, uses, monkeypatch
):
    fake = jax(GPU)
    uses("jax")
    monkeypatch.setenv(machine.DEVICE, "cpu")
    assert backends.device_for(experiment) == "cpu"
    assert fake.config == {"jax_platforms": "cpu", "jax_default_device": CPU}
    monkeypatch.setenv(machine.DEVICE, "auto")
    assert backends.device_for(experiment) == "cuda" and fake.config["jax_default_device"] is None


def test_cuda_that_jax_does_not_have_is_refused_in_one_line(jax, uses, monkeypatch):
    jax(CPU)
    uses("jax")
    monkeypatch.setenv(machine.DEVICE, "cuda")
    with pytest.raises(
        Unavailable, match="jax has none; install the extra gpu or say --device cpu"
    ):
        backends.device_for(experiment)


def test_a_backend_that_does_not_start_is_one_line(jax, uses):
    def fail(_=None):
        raise RuntimeError("Unable to initialize backend 'cuda'\nand more")

    fake = jax(GPU)
    fake.devices = fail
    uses("jax")
    with pytest.raises(
        Unavailable, match="^jax has no device .Unable to initialize backend 'cuda'.$"
    ):
        backends.device_for(experiment)


def test_without_jax_its_experiments_have_the_processors_key(jax, uses):
    jax()
    uses("jax")
    assert backends.device_for(experiment) == "cpu"


def test_jax_really_computes_where_it_is_told(monkeypatch):
    import jax

    monkeypatch.setenv(machine.DEVICE, "cpu")
    assert backends.device_of("jax") == "cpu"
    assert {device.platform for device in jax.numpy.zeros(2).devices()} == {"cpu"}
    jax.config.update("jax_default_device", None)


def test_what_is_written_names_the_backend(jax, uses, tmp_path, monkeypatch):
    jax(CPU)
    uses("jax")
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    runs.produce_or_load(experiment, Settings())
    (path,) = tmp_path.rglob("table.parquet")
    written = provenance_of(path)
    assert (written["device"], written["numerics"]["device"]) == (
        machine.device_name("cpu"),
        machine.capability("cpu"),
    )
    monkeypatch.setattr(backends, "packages_of", lambda _: {"torch"})
    runs.produce_or_load(experiment, Settings())
    assert len(list(tmp_path.rglob("table.parquet"))) == 2  # another backend, another run


def test_frameworks_are_read_from_the_code_that_an_experiment_reaches():
    from replicate.sources.protocol import Source

    assert backends.frameworks_of(Source("sandler2023trajectories")["figure_5"]) == ["torch"]


@pytest.mark.parametrize(
    ("told", "ending"), [(True, " with AMX"), (False, " without AMX"), (None, "")]
)
def test_a_processor_s_name_says_whether_it_has_tiles(monkeypatch, told, ending):
    """The class of numerics does not: results of both kinds are of one pool."""
    asked = {} if told is None else {"amx_bf16": told}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: asked, raising=False)
    capability = machine.capability("cpu")
    assert machine.device_name("cpu").endswith(capability + ending)
    assert "AMX" not in capability
