"""Every experiment of every source runs at a tiny size on the device that is asked for, and is
recorded as run there.

`make test-gpu` asks for CUDA; REPLICATE_DEVICE=cpu rehearses it anywhere.
"""

import pytest

from replicate import datasets, paths, runs
from replicate.runs import backends, machine
from replicate.runs.tables import provenance_of
from replicate.sources.protocol import Experiment, Source, names

pytestmark = [pytest.mark.gpu, pytest.mark.long]
EXPERIMENTS = [(source, name) for source in names() for name in Source(source)]
PRESETS = ("gpu", "smoke")  # the first of which the data are at hand


def tiny(source: Source, experiment: Experiment) -> list:
    """The settings to run: an experiment's that needs no data as they are, else the first that it
    is meant for.
    """
    if experiment.settings is not None:
        return list(experiment.settings.values())
    for preset in PRESETS:
        for settings in experiment.chosen(source.presets[preset]).values():
            if not experiment.needs_data or is_at_hand(settings.dataset):
                return [source.tiny(settings)]
    return []


def is_at_hand(dataset: str) -> bool:
    return dataset in datasets.NAMES and datasets.at_hand(dataset)


@pytest.mark.parametrize("source, name", EXPERIMENTS)
def test_an_experiment_runs_on_the_device_that_is_asked_for(source, name, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    study = Source(source)
    experiment = study[name]
    settings = tiny(study, experiment)
    if not settings:
        pytest.skip("no data set that it is meant for is at hand")
    rows = sum(len(runs.produce_or_load(experiment, each)) for each in settings)
    written = [provenance_of(path) for path in tmp_path.rglob("table.parquet")]
    assert {about["device"] for about in written if about["experiment"] == name} == {
        backends.name_of(experiment)
    }
    if machine.read_request() != "auto" and backends.frameworks_of(experiment):
        assert backends.device_for(experiment) == machine.read_request()
    if not rows:
        pytest.skip("its smallest preset asks for no rows of it")


def test_a_marker_finds_the_tests_that_cuda_alone_can_run(pytestconfig):
    text = (paths.ROOT / "Makefile").read_text()
    assert "-m gpu" in text and any(
        line.startswith("gpu:") for line in pytestconfig.getini("markers")
    )
