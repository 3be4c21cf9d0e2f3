"""Stages are listed with what they cost, run in order within a budget, and their records are merged once and shown."""

import sys
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from replicate import __main__, evidence, floors, models, paths, report, runs, speed
from replicate.errors import BadData, BadParameter, Unavailable
from replicate.progress import ends_by
from replicate.runs import machine
from replicate.runs.tables import provenance_of, read_table, write_table
from replicate.sources import sandler2023trajectories as source

GPU = "a GPU of a test"


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


def work(experiment, label="digits", **changes) -> evidence.Work:
    stage = evidence.Stage("someone2020", experiment.__name__, label, "why")
    return evidence.Work(stage, experiment, {label: replace(Settings(), **changes)}, lambda own: 2e15)


# The list.


def test_every_stage_that_is_listed_exists_and_a_source_to_come_is_left_out(monkeypatch):
    named = {one.stage.name for one in evidence.stages()}
    assert {f"speed.{one.__name__}.synthetic" for one in speed.EXPERIMENTS} <= named
    assert "sandler2023trajectories.figure_5.cifar10-resnet34" in named
    to_come = evidence.Stage("nobody2099", "figure_1", "cifar10", "")
    known = evidence.Stage("sandler2023trajectories", "figure_99", "cifar10", "")
    monkeypatch.setattr(evidence, "STAGES", (to_come, known, evidence.STAGES[0]))
    assert [one.stage for one in evidence.stages()] == [evidence.STAGES[2]]


def test_a_source_whose_packages_are_not_installed_is_left_out_and_said_to_be(monkeypatch, capsys):
    def without(name):
        raise ModuleNotFoundError("No module named 'jax'", name="jax")

    monkeypatch.setattr(report, "source", without)
    assert {one.stage.source for one in evidence.stages()} == {"speed"}
    assert "going on without sandler2023trajectories.figure_5.cifar10: jax is not installed" in capsys.readouterr().err


def test_the_main_evidence_has_eight_branch_points_3000_steps_apart_and_every_window():
    (own,) = next(one for one in evidence.stages("sandler2023trajectories.figure_5.cifar10")).settings.values()
    assert own.model == "resnet18" and own.branches >= 8 and own.branch_every >= 3000
    assert {10, 100, 1000, 3000} == set(own.two_point) == set(own.swa) == set(own.ema) and own.controls


def test_names_of_stages_are_their_own():
    names = [one.name for one in evidence.STAGES]
    assert len(set(names)) == len(names)
    with pytest.raises(BadParameter, match="unknown stage 'speed.ceiling.synthetic'; did you mean 'speed.ceilings"):
        evidence.stages("speed.ceiling.synthetic")


def test_the_list_says_cost_and_state(capsys, monkeypatch):
    monkeypatch.setattr(floors, "matrix_rate", lambda device, size: 1e15)
    runs.produce_or_load(first, Settings())
    lines = evidence.table([work(first), work(second), replace(work(second), count=None)], "cpu").splitlines()
    assert "1e+03 T operations/s" in lines[0]
    assert "done" in lines[1] and "2 P, 2.0 s" in lines[1] and "missing" in lines[2] and "not counted" in lines[3]


# What it costs.


def test_operations_are_counted_layer_by_layer():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1, bias=False),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False), torch.nn.Flatten(), torch.nn.Linear(8 * 16, 5),
    )  # fmt: skip
    layers = [2 * 8 * 16 * 27, 2 * 8 * 16 * 18, 2 * 128 * 5]
    assert floors.operations(model, (3, 8, 8)) == (sum(layers), 3 * sum(layers) - layers[0])
    assert model.training and next(model.parameters()).device.type == "cpu"


@pytest.mark.long
def test_operations_of_a_resnet_are_what_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    model = models.resnet8(10, 0, width=4)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 16, 16)).sum().backward()
    assert floors.operations(model, (3, 16, 16))[1] == counter.get_total_flops()


def test_the_cost_of_figure_5_is_what_it_computes(monkeypatch):
    """An image trained on counts a million, one that is only looked at counts one."""
    small = replace(
        source.PRESETS["smoke"]["digits"], seeds=(0, 1), width=4, first_branch=5, branches=2, branch_every=8,
        two_point=(2, 8), swa=(2, 8), ema=(3, 8), controls=(), last_windows=(3, 8), train_images=64,
    )  # fmt: skip
    small = replace(small, controls=(8,))
    monkeypatch.setattr("replicate.sources.sandler2023trajectories.cost.floors.operations", lambda *_: (1.0, 1e6))
    expected = sum(count(small) for count in source.OPERATIONS.values())
    images = {"trained": 0, "seen": 0}

    def forward(layer, inputs, output):
        if isinstance(layer, torch.nn.Linear) and output.shape[1] == 10:
            images["trained" if torch.is_grad_enabled() else "seen"] += len(output)

    hook = torch.nn.modules.module.register_module_forward_hook(forward)
    try:
        source.figure_5(small)
        source.last_steps(small)
    finally:
        hook.remove()
    rows = expected % 1e6 / (small.norm_batches * small.norm_batch + small.train_images + 360)
    norm = rows * small.norm_batches * small.norm_batch  # a network without BatchNorm skips these
    assert images["trained"] == expected // 1e6 and images["seen"] == expected % 1e6 - norm


# Running.


def test_stages_run_in_order_and_one_that_fails_or_comes_too_late_is_left(alone):
    said, works = [], [work(broken), work(first), work(second, lr=0.3)]
    left = evidence.run(works, alone / "out", said.append)
    assert [one.experiment for one in left] == [broken]
    assert said[0] == "someone2020.broken.digits: BadData: a file is cut short" and len(said) == 3
    assert [path.name for path in sorted((alone / "out").iterdir())] == [
        "test_evidence-first.parquet", "test_evidence-second.parquet"
    ]  # fmt: skip
    assert evidence.run(works[1:], alone / "out", said.append) == [] and len(said) == 3
    with ends_by(0.0):
        assert len(evidence.run([work(first, lr=0.7)], None, said.append)) == 1 and len(said) == 3


def test_stages_of_one_experiment_share_its_file(alone):
    evidence.run([work(first), work(first, "other", lr=0.2)], alone / "out", print)
    (path,) = (alone / "out").iterdir()
    assert set(read_table(path).dataset) == {"digits", "other"} and len(provenance_of(path)["records"]) == 2


def test_a_folder_takes_eight_files_and_a_file_takes_sixteen_mebibytes(alone, monkeypatch):
    out = alone / "out"
    runs.produce_or_load(first, Settings())
    record = sys.modules["replicate.runs.record"]
    monkeypatch.setattr(record, "MOST_BYTES", 1000)
    with pytest.raises(BadParameter, match="more than the 1000 of one table"):
        runs.export(first, {"digits": Settings()}, "gpu", out)
    assert not list(out.iterdir())
    monkeypatch.setattr(record, "MOST_BYTES", 10**6)
    for number in range(8):
        (out / f"{number}.parquet").write_text("x")
    with pytest.raises(BadParameter, match="has 8 tables already"):
        runs.export(first, {"digits": Settings()}, "gpu", out)


def test_without_cuda_only_a_dry_run_is_allowed(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(Unavailable, match="--device cpu for a dry run"):
        evidence.ask_for("auto")
    assert evidence.ask_for("cpu") == "cpu"


@pytest.mark.parametrize("experiment", speed.EXPERIMENTS, ids=lambda one: one.__name__)
def test_every_measurement_of_speed_runs_at_tiny_size(experiment):
    table = experiment(speed.PRESETS["smoke"]["synthetic"])
    assert len(table) and (table.value > -1).all() and (table.low <= table.value).all()


def test_a_goal_is_met_only_if_every_round_meets_it():
    rows = [speed.goals.Row("G1", "resnet18 b128: x", "ratio", values) for values in ([5, 6, 4], [3, 5, 6], [1, 2, 3])]
    rows += [
        speed.goals.Row("G5", "Lookahead", "fraction", [0.005]),
        speed.goals.Row("ceiling", "copy", "bytes/s", [1]),
    ]
    made = speed.goals.table(rows)
    assert made.met.tolist() == ["yes", "in part", "no", "yes", ""]
    assert made.value.tolist()[:3] == [5, 5, 2]


# Records.


def synthetic(path) -> None:
    """A record of figure_5 as a GPU would make it: a side-trip gains what its average gains, and a control nothing."""
    arms = [("start", "", 0, 0.0), ("raw", "", 1, 0.0), ("raw", "", 100, 0.0), ("average", "two-point", 1, 0.001)]
    arms.append(("constant-rate", "", 100, 0.0))
    for kernel, gain in (("two-point", 0.1), ("swa", 0.2), ("ema", 0.15)):
        arms += [(arm, kernel, 100, gain) for arm in ("average", "side-trip", "other-batches")]
    draw, rows = np.random.default_rng(0), []
    for unit in range(16):
        for arm, kernel, k, gain in arms:
            loss = 0.5 - gain + draw.normal(0, 1e-4)
            rows.append({"seed": unit // 8, "branch": unit % 8, "arm": arm, "kernel": kernel, "k": k, "top1": 1 - loss,
                         "train_loss": loss, "test_loss": loss, "to_average": 0.1, "travelled": 1.0})  # fmt: skip
    about = {"source": "sandler2023trajectories", "experiment": "figure_5", "key": "k1", "code": "c", "dirty": False,
             "settings": asdict(source.PRESETS["gpu"]["cifar10"]), "written": "2026-01-01T00:00:00Z"}  # fmt: skip
    table = pd.DataFrame(rows).assign(dataset="cifar10", commit="abc", device=GPU, key="k1")
    path.parent.mkdir(exist_ok=True)
    write_table(path, table, {"preset": "gpu", "records": {"k1": about}})


def called(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["replicate", *words])
    return __main__.main()


def test_a_record_of_a_gpu_is_merged_once_judged_and_shown_everywhere(alone, monkeypatch):
    synthetic(alone / "out" / "sandler2023trajectories-figure_5.parquet")
    home, seen = paths.RESULTS / "gpu" / "sandler2023trajectories", []
    for _ in range(2):
        assert called(monkeypatch, "record", str(alone / "out")) == 0
        seen.append([path.read_bytes() for path in sorted(home.iterdir())])
    assert seen[0] == seen[1] and len(seen[0]) == 2
    assert len(read_table(home / "sandler2023trajectories-figure_5.parquet")) == 16 * 14
    found = pd.read_csv(home / "verdicts.csv")
    row = found[(found.claim == "TRAJ-21.loss") & (found.case == "cifar10 swa k=100")].iloc[0]
    assert (row.verdict, row.device, row.preset) == ("reproduced", GPU, "gpu")
    assert set(report.larger(source, "cpu").preset) == {"gpu"}
    assert report.beside(source.figure_5, "cpu").device[0] == GPU
    page = report.render(f"{report.MARKS[0]}\n{report.MARKS[1]}")
    assert "| sandler2023trajectories | gpu |" in page and "cifar10 swa k=100 | **reproduced**" in page
    stages = {work.stage.name: work.done for work in evidence.stages("sandler2023trajectories.figure_5")}
    assert stages.pop("sandler2023trajectories.figure_5.cifar10") and not any(stages.values())


@pytest.mark.parametrize(
    ("dataset", "changes", "there"), [("cifar10", {}, True), ("cifar10", {"lr": 0.1}, False), ("other", {}, False)]
)
def test_what_is_recorded_is_known_by_its_settings_and_its_name(alone, dataset, changes, there):
    path = alone / "out" / "sandler2023trajectories-figure_5.parquet"
    synthetic(path)
    runs.record_file(path)
    own = replace(source.PRESETS["gpu"]["cifar10"], **changes)
    assert runs.recorded_at(source.figure_5, "gpu", dataset, own) == there


def test_speed_that_was_recorded_is_shown_with_its_goals(alone, monkeypatch):
    evidence.run(evidence.stages("speed.ceilings", dry=True), alone / "out", print, preset="gpu")
    synthetic(alone / "out" / "sandler2023trajectories-figure_5.parquet")
    assert called(monkeypatch, "record", str(alone / "out")) == 0
    assert "**Speed on " in report.markdown() and "| ceiling | copy |" in report.markdown()


def test_a_dry_run_can_never_be_recorded_as_evidence(alone, monkeypatch, capsys):
    words = ("evidence", "--device", "cpu", "--budget", "1m", "--only", "speed.ceilings", "--out", str(alone / "out"))
    assert called(monkeypatch, *words) == 0
    (path,) = (alone / "out").iterdir()
    assert provenance_of(path)["preset"] == "smoke"
    assert not runs.cached(speed.ceilings, speed.PRESETS["gpu"]).shape[0]


def test_what_is_left_is_named_with_the_command_that_goes_on(monkeypatch, capsys):
    words = ("evidence", "--device", "cpu", "--budget", "0s", "--only", "speed.ceilings")
    assert called(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    assert said == (
        "left: speed.ceilings.synthetic; go on with: "
        "python -m replicate evidence --budget 0s --only speed.ceilings --device cpu\n"
    )
