"""An experiment is one declared object, called as its function, its file and its figure; a source
finds its own.
"""

import sys
from types import ModuleType

import pandas as pd
import pytest

from replicate.errors import BadParameter
from replicate.sources import protocol
from replicate.sources.protocol import Evidence, Experiment, Source, experiment, names

NAME = "sandler2023trajectories"


@experiment(
    fields={"arm": ("plain", "averaged"), "k": lambda settings: {settings, 1}, "rate": float},
    metrics=("loss",),
)
def figure_3(settings: int) -> pd.DataFrame:
    """Losses of both arms."""
    return pd.DataFrame({"arm": ["plain", "averaged"], "loss": [settings, settings / 2]})


# One experiment.


def test_an_experiment_is_called_like_its_function():
    assert isinstance(figure_3, Experiment) and figure_3.name == figure_3.__name__ == "figure_3"
    assert figure_3(4).loss.tolist() == [4, 2] and figure_3.__doc__ == "Losses of both arms."


@pytest.mark.parametrize("declared, chosen", [
    ({}, {"digits": 1, "cifar10": 2}),
    ({"datasets": ("cifar10", "cifar100")}, {"cifar10": 2}),
    ({"datasets": ("cifar100",)}, {}),
    ({"settings": {"quadratic": 9}}, {"quadratic": 9}),
    ({"settings": {"quadratic": 9}, "datasets": ("digits",)}, {"quadratic": 9}),
], ids=str)  # fmt: skip
def test_it_runs_on_what_it_is_meant_for(declared, chosen):
    assert Experiment(figure_3.run, **declared).chosen({"digits": 1, "cifar10": 2}) == chosen


def test_values_of_a_field_are_those_of_the_settings():
    assert figure_3.values("arm", [5]) == ("plain", "averaged")
    assert figure_3.values("k", [5, 7]) == {1, 5, 7} and figure_3.values("k", []) == set()
    assert figure_3.values("rate", [5]) is float


def test_the_table_that_is_judged_is_derived():
    table = figure_3(4)
    assert figure_3.derive_table(table) is table
    doubled = Experiment(figure_3.run, derive=lambda given: given.assign(loss=given.loss * 2))
    assert doubled.derive_table(table).loss.tolist() == [8, 4] and table.loss.tolist() == [4, 2]


def test_what_the_clock_made_is_left_out():
    table = pd.DataFrame({"axis": ["steps", "seconds"], "seconds": [0.1, 0.2], "loss": [1, 2]})
    timed = Experiment(figure_3.run, clocked={"seconds": None, "axis": "seconds", "absent": None})
    assert timed.without_clock(table).to_dict("list") == {"axis": ["steps"], "loss": [1]}
    assert figure_3.without_clock(table).equals(table)


def test_two_experiments_of_one_function_differ():
    assert Experiment(figure_3.run) != Experiment(figure_3.run)


# One source.


def test_an_unknown_source_is_met_with_the_nearest():
    with pytest.raises(BadParameter, match=f"did you mean '{NAME}'"):
        Source("sandler2023")


def test_a_source_maps_names_to_experiments():
    source = Source(NAME)
    assert {"appendix_a", "figure_5", "table_1"} <= set(source)
    figures = [name for name in source if name.startswith("figure_")]
    assert figures == sorted(figures, key=lambda name: int(name.removeprefix("figure_")))
    assert len(source) == len(list(source)) == len(set(source))
    assert {name: each.name for name, each in source.items()} == {name: name for name in source}
    assert (
        "figure_5" in source
        and "settings" not in source
        and "_branches" not in source
        and 3 not in source
    )


@pytest.mark.parametrize("name", ["figure_60", "settings", "presets", "_branches", "__init__", ""])
def test_what_is_no_experiment_is_met_with_the_nearest(name):
    with pytest.raises(BadParameter, match=f"unknown experiment of {NAME}"):
        Source(NAME)[name]


def test_figures_are_sorted_by_number():
    unsorted = ["figure_10", "figure_9", "table_1", "figure_11", "algebra"]
    assert sorted(unsorted, key=protocol._by_number) == [
        "algebra",
        "figure_9",
        "figure_10",
        "figure_11",
        "table_1",
    ]


@pytest.mark.parametrize(
    "declared",
    [None, 3, lambda settings: None, figure_3.run],
    ids=["nothing", "a number", "a lambda", "a function"],
)
def test_a_module_that_declares_no_experiment_is_refused(declared):
    module = ModuleType("replicate.sources.someone2020.figure_3")
    if declared is not None:
        module.figure_3 = declared
    with pytest.raises(
        TypeError, match="someone2020.figure_3 must declare an experiment called figure_3"
    ):
        protocol._get_experiment(module, "figure_3")


def test_an_experiment_of_another_module_is_refused():
    module = ModuleType("replicate.sources.someone2020.figure_3")
    module.figure_3 = figure_3
    with pytest.raises(TypeError):
        protocol._get_experiment(module, "figure_3")
    assert protocol._get_experiment(sys.modules[__name__], "figure_3") is figure_3


def test_only_a_data_set_of_files_has_to_be_at_hand():
    assert Source(NAME).needs_files("digits") and not Source(NAME).needs_files("quadratic")


def test_evidence_says_why_and_how_soon():
    assert Evidence(80, "why") == Evidence(80, "why") != Evidence(79, "why")


@pytest.mark.parametrize("name", names())
def test_an_experiment_runs_under_the_settings_of_its_presets(name):
    source = Source(name)
    for each in source.values():
        runs = [entry for settings in source.presets.values() for entry in each.chosen(settings)]
        assert runs, f"{each.name} never runs"
        for entry in each.chosen(source.presets["smoke"]):
            assert entry in source.entries()


@pytest.mark.parametrize("name", names())
def test_every_field_has_values_under_some_preset(name):
    source = Source(name)
    for each in source.values():
        settings = [
            value for entries in source.presets.values() for value in each.chosen(entries).values()
        ]
        for field in each.fields:
            assert each.values(field, settings) != set(), f"{each.name} {field}"
