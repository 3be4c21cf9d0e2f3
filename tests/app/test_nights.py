"""Stages of preset night: seeds that are recorded are not run again, a budget stops between and within
stages, and the list tells rows, power and hours.
"""

import math
import os
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pandas as pd
import pytest
from records import FILE, SOURCE, write_record

from replicate import paths, runs
from replicate.app import cli, prospects, recording, registry, stages
from replicate.app.stages import Cost, Stage
from replicate.errors import Busy
from replicate.progress import ends_by
from replicate.runs import machine
from replicate.runs.tables import provenance_of
from replicate.sources.protocol import Evidence, Experiment, names


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Folders of its own, a clean commit, the CPU."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for module in (machine, runs):
        monkeypatch.setattr(module, "commit", lambda: ("abc", False))
    monkeypatch.setattr(machine, "history", lambda: ("abc",))
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.delenv("REPLICATE_DEADLINE", raising=False)
    return tmp_path


@dataclass(frozen=True)
class Settings:
    dataset: str = "digits"
    seeds: tuple[int, ...] = (0, 1, 2, 3)


def night_run(settings: Settings) -> pd.DataFrame:
    return pd.DataFrame({"seed": settings.seeds, "loss": [0.1 * (s + 1) for s in settings.seeds]})


def second_run(settings: Settings) -> pd.DataFrame:
    return night_run(settings)


def unfinished(settings: Settings) -> pd.DataFrame:
    raise Busy("2 of 4 runs are left")


def stage(run=night_run, whole=False, **changes) -> Stage:
    settings = {"digits": replace(Settings(), **changes)}
    return Stage(
        "someone2020", Experiment(run, whole=whole), "digits", settings, 50, "why", "night"
    )


def record_elsewhere(folder, run=night_run, **changes):
    """What another machine's run of some of the seeds adds to data/results/night/."""
    given = stage(run, **changes)
    build, paths.BUILD = paths.BUILD, folder / "elsewhere"
    try:
        runs.over(given.experiment, given.settings)
        runs.record(given.experiment, given.settings, "night")
    finally:
        paths.BUILD = build


# Pooling.


def test_seeds_that_another_machine_has_recorded_are_not_run_again(alone):
    assert stage().count_remaining() == 4 and not stage().done
    record_elsewhere(alone, seeds=(0, 2))
    assert stage().remaining["digits"].seeds == (1, 3) and stage().count_remaining() == 2
    said = []
    assert stages.run([stage()], alone / "out", said.append, "night") == []
    assert said[0].startswith("someone2020.night_run.digits: 2 rows")
    (path,) = (alone / "out").iterdir()
    assert set(runs.read_table(path).seed) == {1, 3} and provenance_of(path)["preset"] == "night"
    assert stage().done
    recorded = runs.read_export(path)
    runs.merge(runs.record_path(stage().experiment, "night"), *_rows_and_records(recorded), "night")
    pooled = runs.load_recorded(stage().experiment, "night")
    assert sorted(pooled.seed) == [0, 1, 2, 3] and stage().count_remaining() == 0 and stage().done


def _rows_and_records(export):
    rows, provenance = export
    return rows, provenance["records"]


def test_what_was_run_here_of_the_rest_is_recorded_from_build(alone, monkeypatch):
    record_elsewhere(alone, seeds=(0, 2))
    assert stages.run([stage()], None, print, "night") == []
    monkeypatch.setattr(registry, "sources", lambda: [])
    monkeypatch.setattr(stages, "stages", lambda preset: [stage()] if preset == "night" else [])
    assert recording.record_built() == {("someone2020", "night")}
    assert sorted(runs.load_recorded(stage().experiment, "night").seed) == [0, 1, 2, 3]


def test_more_seeds_than_are_recorded_leave_the_rest(alone):
    record_elsewhere(alone)
    assert stage().done and not stage(seeds=(0, 1, 2, 3, 4, 5)).done
    assert stage(seeds=(0, 1, 2, 3, 4, 5)).remaining["digits"].seeds == (4, 5)


def test_seeds_of_older_code_do_not_stand_for_those_of_todays(alone, monkeypatch):
    """The two would not be pooled: all are run anew, unless older code has run every one."""
    record_elsewhere(alone, seeds=(0, 2))
    record = sys.modules["replicate.runs.record"]
    monkeypatch.setattr(record, "code_digest", lambda experiment, chosen=(): "today's")
    assert stage().count_remaining() == 4 and stage().remaining == stage().settings
    assert stage(seeds=(0, 2)).done


def test_other_settings_and_other_entries_are_not_what_is_recorded(alone):
    record_elsewhere(alone, dataset="cifar10")
    assert stage().count_remaining() == 4
    other = replace(stage(dataset="cifar10"), entry="other")
    assert other.count_remaining() == 4


# A budget.


def call_run(planned, left, cost):
    """(names of what is missing, what was said) with so many seconds left."""
    import time

    said = []
    with ends_by(time.time() + left):
        missing = stages.run(
            planned, None, said.append, "night", lambda each: cost[each.experiment.name]
        )
    return [each.experiment.name for each in missing], said


def test_a_stage_that_the_budget_will_stop_says_so_and_the_next_that_fits_runs():
    planned = [stage(unfinished), stage(second_run), stage(night_run)]
    cost = {
        "unfinished": Cost(7200, 1800),
        "second_run": Cost(3600, 900),
        "night_run": Cost(60, 15),
    }
    missing, said = call_run(planned, 600, cost)
    assert missing == ["unfinished", "second_run"]
    assert said[0].startswith(
        "someone2020.unfinished.digits: takes about 2.0 h, and 10.0 min are left"
    )
    assert "Busy: 2 of 4 runs are left" in said[1]
    assert said[2].startswith("someone2020.night_run.digits: 4 rows") and len(said) == 3


def test_in_the_last_seconds_nothing_starts_after_a_stage_had_to_stop():
    cost = {"unfinished": Cost(7200, 1800), "night_run": Cost(1, 1)}
    assert call_run([stage(unfinished), stage(night_run)], 20, cost)[0] == [
        "unfinished",
        "night_run",
    ]
    assert call_run([stage(night_run)], 20, cost)[0] == []


def test_a_stage_that_fits_says_nothing_before_it_runs():
    missing, said = call_run([stage()], 600, {"night_run": Cost(500, 100)})
    assert missing == [] and len(said) == 1


def test_a_seed_in_one_go_does_not_start_where_it_does_not_fit():
    planned = [stage(night_run, whole=True), stage(second_run)]
    cost = {"night_run": Cost(7200, 1200), "second_run": Cost(60, 15)}
    missing, said = call_run(planned, 600, cost)
    assert missing == ["night_run"] and said[0] == (
        "someone2020.night_run.digits: a seed takes about 20.0 min in one go, and 10.0 min are left; "
        "not started"
    )
    assert said[1].startswith("someone2020.second_run.digits: 4 rows")
    assert call_run(planned, 1500, cost)[0] == []  # one seed fits, so it starts


def test_every_stage_has_a_deadline_of_its_own(monkeypatch):
    """A worker that had to stop before one deadline starts nothing more before the same one."""
    import os

    seen = []
    monkeypatch.setattr(
        runs, "over", lambda *_: seen.append(os.environ["REPLICATE_DEADLINE"]) or [1]
    )
    call_run([stage(night_run), stage(second_run)], 600, {"night_run": None, "second_run": None})
    assert len(set(seen)) == 2 and abs(float(seen[0]) - float(seen[1])) < 0.1


# What a stage decides and costs.


def test_the_stages_of_night_are_declared_entries_with_claims():
    listed = {each.name: each for each in stages.stages(preset="night")}
    assert f"{SOURCE}.figure_5.cifar10" in listed
    assert "fabi2021extrapolation.networks.imagewoof-64" in listed
    undecided = [name for name, each in listed.items() if not prospects.find_decided(each)]
    assert undecided == [], "a stage of night that no claim has its primary case on"


@pytest.mark.parametrize("name", names())
def test_every_claim_that_night_decides_has_its_stages(name):
    source = registry.source(name)
    covered = {
        (experiment.name, entry) for experiment in source.values() for entry in experiment.night
    }
    for claim in registry.claims_of(source):
        for entry in prospects._entries(claim.primary.get("night", {})):
            asked = {(experiment, entry) for experiment in claim.experiments}
            assert asked <= covered, f"{claim.id}: no stage of night for {asked - covered}"


def test_a_stage_decides_the_rows_with_a_primary_case_on_it():
    (figure,) = stages.stages(f"{SOURCE}.figure_5.cifar10-1000", preset="night")
    decided = {claim.id for claim in prospects.find_decided(figure)}
    assert {"TRAJ-21.loss", "TRAJ-27", "BEYOND-spectrum.slope"} <= decided
    assert not {"TRAJ-21.loss-100", "TRAJ-47.loss", "TRAJ-24"} & decided


def test_the_windows_and_seeds_of_night_are_those_that_were_planned():
    night = registry.source(SOURCE).presets["night"]
    short, long, other = (night[name] for name in ("cifar10", "cifar10-1000", "cifar100"))
    assert {each.model for each in night.values()} == {"resnet8"} and short.width == 32
    assert (len(short.seeds), short.branches) == (16, 2) and {100, 300} <= set(short.swa)
    assert (len(long.seeds), long.branches) == (8, 1) and 1000 in long.swa and long.directions
    assert len(other.seeds) == 8 and other.dataset == "cifar100"


def test_hours_are_operations_over_the_rate_of_the_loop(monkeypatch):
    (figure,) = stages.stages(f"{SOURCE}.figure_5.cifar10-1000", preset="night")
    (settings,) = figure.settings.values()
    monkeypatch.setattr(prospects, "measure_rate", lambda experiment, settings, device: 1e9)
    seconds = figure.experiment.operations(settings) / 1e9
    for jobs, rounds in ((1, 8), (2, 4), (3, 3)):
        monkeypatch.setenv("REPLICATE_JOBS", str(jobs))
        cost = prospects.estimate_cost(figure, "cpu")
        assert cost.seed_seconds == pytest.approx(seconds / 8)
        assert cost.seconds == pytest.approx(rounds * seconds / 8)


def test_the_measured_rate_is_that_of_a_training_step(monkeypatch):
    settings = registry.source(SOURCE).presets["smoke"]["digits"]
    experiment = registry.source(SOURCE)["figure_5"]
    steps, advance = [], prospects.training.advance
    monkeypatch.setattr(
        prospects.training, "advance", lambda *a: steps.append(a[-1]) or advance(*a)
    )
    monkeypatch.setattr(prospects.numerics, "clock", lambda jobs, *_: _call_thrice(jobs))
    prospects._measure_rate.cache_clear()
    rate = prospects.measure_rate(experiment, settings, "cpu")
    assert steps == [1, 2, 3]
    per_image = prospects.kit.operations_per_image(settings, "digits")[1]
    assert rate == pytest.approx(settings.batch * per_image / 0.5)
    prospects._measure_rate.cache_clear()


def test_a_loop_of_another_kind_is_timed_by_its_own_step(monkeypatch):
    steps = []
    experiment = SimpleNamespace(timed_step=lambda *what: (lambda: steps.append(what), 3e6))
    monkeypatch.setattr(prospects.numerics, "clock", lambda jobs, *_: _call_thrice(jobs))
    assert prospects.measure_rate(experiment, "its settings", "cpu") == pytest.approx(6e6)
    assert steps == 3 * [("its settings", "cpu")]


def make_noted_step(folder, device):
    """A step that leaves its process's number in the folder."""

    def step():
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 20
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

    return step, 1e6


def test_a_loop_is_timed_while_as_many_others_run_as_will(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATE_JOBS", "2")
    experiment = SimpleNamespace(timed_step=make_noted_step)
    assert prospects.measure_rate(experiment, tmp_path, "cpu") > 0
    processes = {int(path.name) for path in tmp_path.iterdir()}
    assert len(processes) == 2 and os.getpid() not in processes


def _call_thrice(jobs):
    for _ in range(3):
        jobs["step"]()
    return {"step": [0.4, 0.5, 9.0]}


def test_the_list_tells_rows_power_and_hours(alone, monkeypatch, capsys):
    monkeypatch.setattr(prospects, "measure_rate", lambda experiment, settings, device: 1e12)
    monkeypatch.setattr(registry, "list_missing", lambda source, preset: [])
    prospects._read_written.cache_clear()
    path = write_record(alone / "out" / FILE, preset="cpu", dataset="digits", seeds=8)
    monkeypatch.setattr(sys, "argv", ["replicate", "record", str(path.parent)])
    assert cli.main() == 0
    monkeypatch.setattr(
        sys,
        "argv",
        ["replicate", "evidence", "--preset", "night", "--only", f"{SOURCE}.figure_5.cifar10-"],
    )
    capsys.readouterr()
    assert cli.main() == 0
    first, head, *rows = capsys.readouterr().out.splitlines()
    assert "1 seeds side by side" in first and "8 of 8 seeds left, " in head
    (row,) = [row for row in rows if row.strip().startswith("TRAJ-21.loss ")]
    assert "power 1.00, by 8 seeds at cpu: digits swa k=1000" in row
    (row,) = [row for row in rows if row.strip().startswith("BEYOND-spectrum.slope")]
    assert "with spectrum" in row and row.endswith("no pilot with a spread")
    prospects._read_written.cache_clear()


def test_a_pilot_of_the_preset_itself_comes_before_a_smaller_one(monkeypatch):
    (figure,) = stages.stages(f"{SOURCE}.figure_5.cifar10-1000", preset="night")
    claim = next(each for each in prospects.find_decided(figure) if each.id == "TRAJ-20.loss")
    row = {"claim": claim.id, "role": "primary", "verdict": "inconclusive", "value": 0.1, "n": 6}
    row |= {"level": 0.95, "at_least": 0.0, "at_most": math.inf, "case": "c"}
    wide = {"cpu": 0.3, "night": 0.1}  # half an interval

    def read(source, preset):
        half = wide.get(preset, math.nan)
        return pd.DataFrame([row | {"low": 0.1 - half, "high": 0.1 + half}])

    monkeypatch.setattr(prospects, "_read_written", read)
    assert prospects.tell_power(figure, claim).endswith("by 6 seeds at night: c")
    wide["night"] = math.inf
    assert prospects.tell_power(figure, claim).endswith("by 6 seeds at cpu: c")
    by_cpu = float(prospects.tell_power(figure, claim).split()[1].rstrip(","))
    assert by_cpu == pytest.approx(0.11, abs=0.05)  # at 8 seeds: 0.1 is a third of half an interval


def test_a_stage_without_a_count_of_operations_is_not_counted():
    uncounted = stage()
    assert prospects.estimate_cost(uncounted, "cpu") is None
    assert prospects._tell_left(uncounted, "cpu") == "4 of 4 seeds left, not counted"


@pytest.mark.parametrize(("seconds", "words"), [(1, "1.0 s"), (200, "3.3 min"), (9000, "2.5 h")])
def test_a_time_is_told_in_the_largest_unit_of_which_there_are_two(seconds, words):
    assert stages.in_words(seconds) == words and math.isfinite(seconds)


def test_evidence_of_an_unknown_preset_is_none():
    declared = Experiment(
        night_run, evidence={"a": Evidence(1, "x")}, night={"b": Evidence(2, "y")}
    )
    assert set(declared.evidence_at("gpu")) == {"a"} and set(declared.evidence_at("night")) == {"b"}
    assert declared.evidence_at("cpu") == {}
