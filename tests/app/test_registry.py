"""A source with its claims and tables: what is asked of build/ and of data/results/, and what is
said to be missing.
"""

import pandas as pd
import pytest
from records import FILE, GPU, SOURCE, figure_5, write_record

from replicate import claims, paths, runs
from replicate.app import registry
from replicate.errors import BadData, BadParameter


@pytest.fixture
def source():
    return registry.source(SOURCE)


def test_sources_are_in_the_order_of_their_names():
    assert [source.name for source in registry.sources()] == sorted(
        source.name for source in registry.sources()
    )


def test_an_unknown_source_is_met_with_the_nearest():
    with pytest.raises(BadParameter, match=f"did you mean '{SOURCE}'"):
        registry.source("sandler2023")


def test_claims_are_checked_when_they_are_read(source, tmp_path, monkeypatch):
    text = (paths.CLAIMS / f"{SOURCE}.toml").read_text()
    (tmp_path / f"{SOURCE}.toml").write_text(
        text.replace('"side-trip", "average"', '"side-trap", "average"', 1)
    )
    monkeypatch.setattr(paths, "CLAIMS", tmp_path)
    with pytest.raises(BadData, match="unknown value 'side-trap'; did you mean 'side-trip'"):
        registry.claims_of(source)


def test_recorded_rows_carry_what_their_settings_are(source, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    write_record(tmp_path / "gpu" / SOURCE / FILE)
    table = registry.read_recorded_tables(source, "gpu")(source["figure_5"])
    assert set(table.setting) == {"stand-in: ResNet-18 on cifar10"} and len(table) == len(
        figure_5()
    )
    assert registry.read_recorded_tables(source, "gpu")(source["last_steps"]).empty


def test_the_table_that_is_judged_is_derived_by_data_set(source):
    both = [figure_5(dataset=name).assign(setting=f"on {name}") for name in ("digits", "cifar10")]
    decided = registry.decide(source, lambda experiment: pd.concat(both))(("figure_5",))
    start = decided.table[decided.table.arm == "start"]
    assert start.k.isna().all() and set(decided.table.dataset) == {"digits", "cifar10"}
    told = decided.table.groupby("dataset").setting.unique().map(list).to_dict()
    assert told == {"digits": ["on digits"], "cifar10": ["on cifar10"]}
    assert decided.fields == tuple(source["figure_5"].fields) and decided.named
    assert set(decided.table.device) == {GPU}


def test_what_has_not_run_decides_nothing(source):
    assert (
        registry.decide(source, lambda experiment: pd.DataFrame())(("figure_5", "last_steps"))
        is None
    )


def test_algebra_has_no_name_of_a_data_set(source):
    table = source["table_1"](next(iter(source["table_1"].settings.values())))
    given = table.assign(dataset="quadratic", commit="c", device="d", setting="s")
    assert not registry.decide(source, lambda experiment: given)(("table_1",)).named


def test_the_largest_preset_is_shown_beside(source, monkeypatch):
    whole = figure_5().iloc[:1]
    held = {"gpu": whole.assign(x=2), "cpu": whole.assign(x=1)}
    monkeypatch.setattr(
        runs, "load_recorded", lambda experiment, preset: held.get(preset, pd.DataFrame())
    )
    assert registry.read_largest(source, "figure_5", "smoke").x[0] == 2
    held.pop("gpu")
    assert registry.read_largest(source, "figure_5", "cpu").x[0] == 1
    assert registry.read_largest(source, "figure_5", "gpu").empty
    held["gpu"] = whole.drop(columns="arm").assign(x=2)  # of older code, which had no arms
    assert registry.read_largest(source, "figure_5", "cpu").x[0] == 1


def test_each_data_set_is_shown_at_the_largest_preset_that_has_it(source, monkeypatch):
    rows = figure_5().iloc[:1]
    held = {
        "gpu": rows.assign(x=3, dataset="cifar10"),
        "cpu": pd.concat([rows.assign(x=1, dataset="cifar10"), rows.assign(x=2, dataset="digits")]),
    }
    monkeypatch.setattr(
        runs, "load_recorded", lambda experiment, preset: held.get(preset, pd.DataFrame())
    )
    shown = registry.read_largest(source, "figure_5", "smoke")
    assert shown[["dataset", "x"]].values.tolist() == [["cifar10", 3], ["digits", 2]]
    assert shown.attrs["preset"] == "gpu and cpu"


def test_older_code_is_named_by_experiment_and_data_set(source, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    assert registry.list_older(source, "gpu") == []
    write_record(tmp_path / "gpu" / SOURCE / FILE)
    assert registry.list_older(source, "gpu") == ["figure_5 on cifar10"]


def test_data_sets_that_are_not_at_hand_are_named(source, tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    assert registry.list_missing(source, "smoke") == [] and registry.list_missing(
        source, "cpu"
    ) == ["cifar10"]
    assert registry.list_missing(source, "paper") == ["imagenet"]  # which nothing here reads


def test_presets_of_every_source_are_known():
    for source in registry.sources():
        assert set(source.presets) <= set(claims.PRESETS) and {"smoke", "cpu"} <= set(
            source.presets
        )
