"""What a run is told is checked, names and values, before anything runs; presets stay as they are."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from replicate.app import overrides, registry
from replicate.errors import BadParameter, Missing
from replicate.sources.protocol import Experiment


def source():
    return registry.source("sandler2023trajectories")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    return tmp_path


def test_a_plain_override_goes_to_all_and_a_dotted_one_to_one():
    found = overrides.overridden(source(), "cpu", {"momentum": 0.5, "cifar10.lr": 0.25})
    rates = {name: settings.lr for name, settings in source().presets["cpu"].items()}
    assert {name: settings.momentum for name, settings in found.items()} == dict.fromkeys(
        rates, 0.5
    )
    assert {name: settings.lr for name, settings in found.items()} == rates | {"cifar10": 0.25}
    assert {"quadratic", "digits"} < set(rates)
    assert source().presets["cpu"]["cifar10"].lr == 0.05


def test_an_entry_with_settings_of_its_own_takes_them():
    found = overrides.overridden(source(), "cpu", {"cifar10-batches.draws": 2})
    assert found["cifar10-batches"].draws == 2 != found["digits-batches"].draws
    found = overrides.overridden(source(), "cpu", {"draws": 2})  # goes where it has a meaning
    assert found["cifar10-batches"].draws == found["digits-batches"].draws == 2


@pytest.mark.parametrize(
    "preset, given, line",
    [
        ("cpu", {"digits.draws": 2}, "unknown setting 'draws'"),
        ("smok", {}, "did you mean 'smoke'"),
        (3, {}, "unknown preset '3'"),
        ("cpu", {"cifar10.rate": 1.0}, "unknown setting 'rate'"),
        ("smoke", {"cifar10.lr": 1.0}, "known: digits"),
        ("smoke", {"lr": "0.1"}, "lr: "),
        ("smoke", {"batch": True}, "batch: "),
    ],
)
def test_names_and_values_are_checked(preset, given, line):
    with pytest.raises(BadParameter, match=line) as error:
        overrides.settings(source(), preset, given, "cpu")
    assert "\n" not in str(error.value)


def test_assignments_are_python_literals_or_text():
    found = overrides.parse(
        ["lr=0.1", "seeds=[0, 1]", "model=mlp", "flip=False", "cifar10.lr = 1e-3"]
    )
    assert found == {"lr": 0.1, "seeds": (0, 1), "model": "mlp", "flip": False, "cifar10.lr": 0.001}


def test_a_missing_data_set_is_left_out_unless_named(monkeypatch, capsys):
    def unreachable(name):
        raise Missing(f"{name} cannot be reached")

    monkeypatch.setattr("replicate.datasets.fetch", unreachable)
    planned = source().presets["cpu"]
    here = [entry for entry in planned if planned[entry].dataset != "cifar10"]
    assert list(overrides.settings(source(), "cpu", {}, "cpu")) == here != list(planned)
    assert capsys.readouterr().err == "going on without cifar10: cifar10 cannot be reached\n"
    with pytest.raises(Missing):
        overrides.settings(source(), "cpu", {"cifar10.lr": 0.1}, "cpu")


def with_entry(name: str, needs_data: bool = True):
    """A source of one experiment whose preset cpu has one entry."""
    experiment = Experiment(lambda settings: None, needs_data=needs_data)
    made = SimpleNamespace(
        presets={"cpu": {name: replace(source().paper, dataset="cifar10")}}, paper=source().paper
    )
    made.needs_files = lambda entry: experiment.needs_data
    return made


def test_a_data_set_nothing_reads_is_left_out_and_said(capsys):
    other = registry.source("fabi2021extrapolation")
    assert overrides.settings(other, "paper", {}, "cpu") == {}
    assert capsys.readouterr().err == "going on without imagewoof: nothing here reads it yet\n"


def test_a_synthetic_set_is_at_hand(folders):
    assert list(overrides.settings(with_entry("drawn", needs_data=False), "cpu", {}, "cpu")) == [
        "drawn"
    ]


@pytest.mark.parametrize("key", ["dataset", "digits.dataset"])
def test_a_data_set_cannot_be_overridden(key):
    with pytest.raises(BadParameter, match="dataset cannot be overridden") as error:
        overrides.overridden(source(), "smoke", {key: "cifar10"})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given", [[("lr", 0.1)], "lr=0.1", None, 3, {1: 0.1}, {None: 0.1}, {"": 0.1}, {".lr": 0.1}]
)
def test_overrides_must_map_names_to_values(given):
    with pytest.raises(BadParameter) as error:
        overrides.overridden(source(), "smoke", given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["lr={[]:1}", "lr={{1}}", f"lr={'-' * 5000}1", f"lr={'[' * 5000}", "lr", "=3", " = 3"]
)
def test_assignments_that_are_no_values_are_refused_in_one_line(text):
    with pytest.raises(BadParameter) as error:
        overrides.overridden(source(), "smoke", overrides.parse([text]))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_presets_are_not_changed_by_overrides():
    before = source().presets["smoke"]["digits"]
    assert overrides.overridden(source(), "smoke", {"lr": 0.5})["digits"].lr == 0.5
    assert source().presets["smoke"]["digits"] == before
