"""Stages are listed with what they cost, run in order within a budget, and their records are merged
once and shown.
"""

import importlib
import itertools
import sys
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from records import FILE, GPU, SOURCE, write_record

from replicate import paths, runs
from replicate.app import benchmarks, cli, readme, registry, stages, verdicts
from replicate.app.stages import Stage
from replicate.errors import BadData, BadParameter, Unavailable
from replicate.progress import ends_by
from replicate.runs import machine
from replicate.runs.tables import provenance_of, read_table
from replicate.sources.protocol import BY_STAGES, Evidence, Experiment


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """Folders of its own, a clean commit, the CPU."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(machine, "commit", lambda: ("abc", False))
    monkeypatch.setattr(runs, "commit", lambda: ("abc", False))
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.delenv("REPLICATE_DEADLINE", raising=False)
    return tmp_path


@dataclass(frozen=True)
class Settings:
    dataset: str = "digits"
    lr: float = 0.1


def first(settings: Settings) -> pd.DataFrame:
    return pd.DataFrame({"loss": [settings.lr, settings.lr / 3], "diverged": [np.nan, 7]})


def second(settings: Settings) -> pd.DataFrame:
    return first(settings)


def broken(settings: Settings) -> pd.DataFrame:
    raise BadData("a file is cut short")


EXPERIMENTS = {
    run: Experiment(run, operations=lambda settings: 2e15) for run in (first, second, broken)
}


def stage(run, entry="digits", **changes) -> Stage:
    settings = {entry: replace(Settings(), **changes)}
    return Stage("someone2020", EXPERIMENTS[run], entry, settings, 50, "why")


def source():
    return registry.source(SOURCE)


# The list.


def test_a_stage_is_what_an_experiment_declares(monkeypatch):
    monkeypatch.setattr(registry, "sources", lambda: [source()])
    of_speed = {f"speed.{each.name}.{entry}" for each in benchmarks.experiments().values()
                for entry in each.evidence}  # fmt: skip
    declared = {
        f"{SOURCE}.{each.name}.{entry}" for each in source().values() for entry in each.evidence
    }
    assert {each.name for each in stages.stages()} == of_speed | declared
    assert "sandler2023trajectories.figure_5.cifar10-resnet34" in declared and of_speed


def test_the_most_valuable_stage_comes_first():
    values = [each.value for each in stages.stages()]
    assert values == sorted(values, reverse=True) and len(set(values)) > 3


def test_evidence_is_declared_on_an_entry_of_the_preset():
    for each, preset in itertools.product(registry.sources(), BY_STAGES):
        for experiment in each.values():
            meant = experiment.chosen(each.presets.get(preset, {}))
            declared = experiment.evidence_at(preset)
            assert set(declared) <= set(meant), f"{each.name} {experiment.name}"
            assert all(isinstance(why, Evidence) and why.why for why in declared.values())


def test_a_source_whose_packages_are_missing_is_left_out(monkeypatch, capsys):
    class Bare:
        name = "someone2020"

        def values(self):
            raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setattr(registry, "sources", lambda: [Bare()])
    assert {each.source for each in stages.stages()} == {"speed"}
    assert capsys.readouterr().err == "going on without someone2020: jax is not installed\n"


def test_the_main_evidence_has_every_window():
    (settings,) = next(
        each for each in stages.stages(f"{SOURCE}.figure_5.cifar10")
    ).settings.values()
    assert settings.model == "resnet18" and settings.branches >= 8 and settings.branch_every >= 3000
    windows = {10, 100, 1000, 3000}
    assert (
        windows == set(settings.two_point) == set(settings.swa) == set(settings.ema)
        and settings.controls
    )


def test_names_of_stages_differ_and_a_wrong_one_is_met():
    listed = [each.name for each in stages.stages()]
    assert len(set(listed)) == len(listed)
    with pytest.raises(
        BadParameter, match="unknown stage 'speed.ceiling.synthetic'; did you mean 'speed.ceilings"
    ):
        stages.stages("speed.ceiling.synthetic")


def test_the_list_says_cost_and_state(monkeypatch):
    monkeypatch.setattr(stages, "matrix_rate", lambda device, size: 1e15)
    runs.produce_or_load(EXPERIMENTS[first], Settings())
    uncounted = replace(stage(second), experiment=Experiment(second))
    lines = stages.table([stage(first), stage(second), uncounted], "cpu").splitlines()
    assert "1e+03 T operations/s" in lines[0]
    assert (
        "done" in lines[1]
        and "2 P, 2.0 s" in lines[1]
        and "missing" in lines[2]
        and "not counted" in lines[3]
    )


# What it costs.


def test_the_cost_of_figure_5_is_what_it_computes(monkeypatch):
    """An image trained on counts a million, one that is only looked at counts one."""
    small = replace(
        source().presets["smoke"]["digits"], seeds=(0, 1), width=4, first_branch=5, branches=2, branch_every=8,
        two_point=(2, 8), swa=(2, 8), ema=(3, 8), controls=(), last_windows=(3, 8), train_images=64,
    )  # fmt: skip
    small = replace(small, controls=(8,))
    monkeypatch.setattr("replicate.sources.images.operations_per_image", lambda *_: (1.0, 1e6))
    expected = sum(source()[name].operations(small) for name in ("figure_5", "last_steps"))
    images = {"trained": 0, "seen": 0}

    def forward(layer, inputs, output):
        if isinstance(layer, torch.nn.Linear) and output.shape[1] == 10:
            images["trained" if torch.is_grad_enabled() else "seen"] += len(output)

    hook = torch.nn.modules.module.register_module_forward_hook(forward)
    try:
        source()["figure_5"](small)
        source()["last_steps"](small)
    finally:
        hook.remove()
    rows = expected % 1e6 / (small.norm_batches * small.norm_batch + small.train_images + 360)
    norm = rows * small.norm_batches * small.norm_batch  # a network without BatchNorm skips these
    assert images["trained"] == expected // 1e6 and images["seen"] == expected % 1e6 - norm


# Running.


def test_stages_run_in_order_and_what_fails_is_left(alone):
    said, planned = [], [stage(broken), stage(first), stage(second, lr=0.3)]
    assert [each.experiment for each in stages.run(planned, alone / "out", said.append)] == [
        EXPERIMENTS[broken]
    ]
    assert said[0] == "someone2020.broken.digits: BadData: a file is cut short" and len(said) == 3
    files = [path.name for path in sorted((alone / "out").iterdir())]
    assert files == ["test_stages-first.parquet", "test_stages-second.parquet"]
    assert stages.run(planned[1:], alone / "out", said.append) == [] and len(said) == 3


def test_what_comes_too_late_is_left(alone):
    said = []
    with ends_by(0.0):
        assert len(stages.run([stage(first, lr=0.7)], None, said.append)) == 1 and said == []


def test_stages_of_one_experiment_share_its_file(alone):
    stages.run([stage(first), stage(first, "other", lr=0.2)], alone / "out", print)
    (path,) = (alone / "out").iterdir()
    assert (
        set(read_table(path).dataset) == {"digits", "other"}
        and len(provenance_of(path)["records"]) == 2
    )


def test_a_folder_takes_eight_files_and_a_file_takes_sixteen_mebibytes(alone, monkeypatch):
    out = alone / "out"
    runs.produce_or_load(EXPERIMENTS[first], Settings())
    record = importlib.import_module("replicate.runs.record")
    monkeypatch.setattr(record, "MOST_BYTES", 1000)
    with pytest.raises(BadParameter, match="more than the 1000 of one table"):
        runs.export(EXPERIMENTS[first], {"digits": Settings()}, "gpu", out)
    assert not list(out.glob("*"))
    monkeypatch.setattr(record, "MOST_BYTES", 10**6)
    out.mkdir()
    for number in range(8):
        (out / f"{number}.parquet").write_text("x")
    with pytest.raises(BadParameter, match="has 8 tables already"):
        runs.export(EXPERIMENTS[first], {"digits": Settings()}, "gpu", out)


def test_without_cuda_only_a_dry_run_is_allowed(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(Unavailable, match="--device cpu for a dry run"):
        stages.ask_for("auto")
    assert stages.ask_for("cpu") == "cpu"


# Records.


def called(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["replicate", *words])
    return cli.main()


def test_a_record_of_a_gpu_is_merged_once_and_shown(alone, monkeypatch):
    entries = source().presets["gpu"]
    planned = replace(entries["cifar10"], seeds=tuple(range(6)))  # enough for a firm word
    monkeypatch.setitem(entries, "cifar10", planned)
    write_record(alone / "out" / FILE)
    monkeypatch.setattr(registry, "sources", lambda: [source()])
    monkeypatch.setattr(paths, "ANSWERS", alone)  # without sentences, which rest on preset cpu
    home, seen = paths.RESULTS / "gpu" / SOURCE, []
    for _ in range(2):
        assert called(monkeypatch, "record", str(alone / "out")) == 0
        seen.append([path.read_bytes() for path in sorted(home.iterdir())])
    assert seen[0] == seen[1] and len(seen[0]) == 2
    assert len(read_table(home / FILE)) == 6 * 8 * 14
    table = pd.read_csv(home / "verdicts.csv")
    row = table[(table.claim == "TRAJ-21.loss") & (table.role == "primary")].iloc[0]
    assert (row.verdict, row.device, row.preset) == ("reproduced", GPU, "gpu")
    assert set(verdicts.read_larger(source(), "cpu").preset) == {"gpu"}
    assert registry.read_largest(source(), "figure_5", "cpu").device[0] == GPU
    page = readme.render(f"{readme.MARKS[0]}\n{readme.MARKS[1]}")
    assert f"| {SOURCE} | gpu |" in page
    assert (row.case, row.setting) == ("cifar10 swa k=1000", "stand-in: ResNet-18 on cifar10")
    done = {each.name: each.done for each in stages.stages(f"{SOURCE}.figure_5")}
    assert done.pop(f"{SOURCE}.figure_5.cifar10") and not any(done.values())


@pytest.mark.parametrize(
    ("dataset", "changes", "there"),
    [("cifar10", {}, True), ("cifar10", {"lr": 0.1}, False), ("other", {}, False)],
)
def test_what_is_recorded_is_known_by_its_settings_and_its_name(alone, dataset, changes, there):
    rows, provenance = runs.read_export(write_record(alone / "out" / FILE))
    path = runs.record_path(source()["figure_5"], "gpu")
    runs.merge(path, rows, provenance["records"], "gpu")
    settings = replace(source().presets["gpu"]["cifar10"], **changes)
    assert runs.is_recorded(source()["figure_5"], "gpu", dataset, settings) == there


def test_what_is_left_is_named_with_the_command_that_goes_on(monkeypatch, capsys):
    words = ("evidence", "--preset", "gpu", "--device", "cpu", "--budget", "0s")
    words += ("--only", "speed.ceilings")
    assert called(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    assert said == (
        "left: speed.ceilings.synthetic; go on with: "
        "python -m replicate evidence --preset gpu --budget 0s --only speed.ceilings --device cpu\n"
    )
