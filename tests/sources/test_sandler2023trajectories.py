"""Side-trips, averages and controls against a dull loop; the checks against inputs whose truth is
known.
"""

import functools
import itertools
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from replicate import claims, datasets, models, paths, progress, runs, training
from replicate.app import registry
from replicate.averaging import ema, kernel_weights, swa, two_point
from replicate.errors import Busy
from replicate.runs import keep_rows
from replicate.sources.protocol import THE_SOURCES
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories.figure_5 import figure_5
from replicate.sources.sandler2023trajectories.last_steps import last_steps
from replicate.sources.sandler2023trajectories.presets import ALGEBRA, PRESETS
from replicate.sources.sandler2023trajectories.table_1 import table_1
from replicate.training import schedules

KERNELS = {"two-point": two_point, "swa": swa, "ema": ema}
SMALL = replace(
    PRESETS["smoke"]["digits"],
    width=16,
    first_branch=30,
    branches=2,
    branch_every=12,
    two_point=(8, 12),
    swa=(8, 12),
    ema=(8, 12),
    controls=(8, 12),
    last_windows=(6, 12),
    last_delta=0.5,
    train_images=512,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The experiment's tables and the folder of the main run of seed 1, all at settings that take a
    second.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", tmp_path_factory.mktemp("build"))
        patch.setenv("REPLICATE_JOBS", "1")
        tables = {"figure_5": figure_5(SMALL), "last_steps": last_steps(SMALL)}
        (main,) = paths.BUILD.glob("runs/*/main_run-*/seed1")
        yield tables, main


class Stopped(Exception):
    """The machine went away."""


@pytest.mark.parametrize("left", [0, 1, 2, 3, 5])
def test_a_main_run_that_is_stopped_goes_on_to_the_same_bits(run, tmp_path, monkeypatch, left):
    monkeypatch.setattr("replicate.progress.SAVE_SECONDS", 0)
    monkeypatch.setattr("replicate.progress.SAVE_SHARE", float("inf"))
    folder, whole = tmp_path / run[1].parent.name / run[1].name, training.Checkpoints.save
    folder.mkdir(parents=True)
    saves = []

    def save(self, state, records):
        whole(self, state, records)
        saves.append(state.step)
        if len(saves) == left + 1:
            raise Stopped

    monkeypatch.setattr(training.Checkpoints, "save", save)
    with pytest.raises(Stopped):
        _branches.main_run(SMALL, {"seed": 1}, folder, [], "cpu")
    table = _branches.main_run(SMALL, {"seed": 1}, folder, [], "cpu")
    assert 0 < saves[left] < SMALL.steps and saves[left + 1] > saves[left]
    pd.testing.assert_frame_equal(table, pd.read_parquet(run[1] / "table.parquet"), check_like=True)
    ends = sorted(run[1].glob("branch-*.ckpt"))
    assert len(ends) > 4
    for path in ends:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def lived(kill: bool) -> int:
    """How a process ends that runs Figure 5, every fifth piece the last before a deadline; `kill`:
    killed in a save.
    """
    child = os.fork()
    if child == 0:
        code, near = 1, itertools.cycle([False] * 4 + [True])
        try:
            progress.deadline = lambda: time.time() - 1 if next(near) else float("inf")
            if kill:
                runs.keep_rows = lambda *given: (
                    keep_rows(*given),
                    os.kill(os.getpid(), signal.SIGKILL),
                )
            figure_5(SMALL)
            code = 0
        except Busy as busy:
            code = busy.exit_code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_pauses_and_a_kill_end_at_the_same_bits(run, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    ended = []
    while 0 not in ended and len(ended) < 60:
        ended.append(
            lived(kill=-signal.SIGKILL not in ended and any(tmp_path.rglob("rows.parquet")))
        )
    assert set(ended) == {75, -signal.SIGKILL, 0} and len(ended) > 8
    assert {path.parents[1].name for path in tmp_path.rglob("checkpoints/step-*.ckpt")} == {
        "seed0",
        "seed1",
    }
    pd.testing.assert_frame_equal(figure_5(SMALL), run[0]["figure_5"], check_exact=True)


def plain_run(rate, steps: int, other_from: int | None = None) -> list[torch.Tensor]:
    """theta_0 .. theta_steps of seed 1 by a loop that knows nothing of branches; `other_from`: then
    stream 1.
    """
    images = datasets.load("digits")
    noise = {"pixel_noise": SMALL.pixel_noise, "label_noise": SMALL.label_noise}
    data = datasets.Batches(images.train_x, images.train_y, SMALL.batch, images.classes, **noise)
    model = models.mlp(images.train_x[0].size, (16, 16), images.classes, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=SMALL.momentum)
    path = [training.flat_weights(model).double()]
    for step in range(steps):
        x, y = data.batch(1, 1 if other_from is not None and step >= other_from else 0, step)
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        path.append(training.flat_weights(model).double())
    return path


def row(table: pd.DataFrame, **where) -> pd.Series:
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_every_arm_of_every_window_is_there_once(run):
    table = run[0]["figure_5"]
    arms = table[(table.seed == 0) & (table.branch == 0)].groupby("arm").size()
    assert arms.to_dict() == {
        "start": 1, "raw": 3, "average": 7, "side-trip": 6, "other-batches": 6, "constant-rate": 2,
    }  # fmt: skip
    assert not table.duplicated(["seed", "branch", "kernel", "k", "arm"]).any()
    assert table.drop(columns=["start"]).notna().all(axis=None)
    assert set(table.start) == set(SMALL.starts)


@pytest.mark.parametrize("name, k", [(name, k) for name in KERNELS for k in (8, 12)])
def test_averages_are_those_of_a_loop_that_keeps_every_iterate(run, name, k):
    start = SMALL.starts[1]
    path = plain_run(lambda step: SMALL.lr, start + k)
    dull = sum(float(m) * theta for m, theta in zip(KERNELS[name](k), path[start:], strict=True))
    ends, _ = training.load_tensor_file(run[1] / "branch-1-ends.ckpt")
    torch.testing.assert_close(ends[f"{name} k={k}"], dull, rtol=0, atol=1e-6)
    assert training.distance(ends[f"{name} k={k}"], path[-1]) > 1e-3


@pytest.mark.parametrize("arm", ["side-trip", "other-batches"])
@pytest.mark.parametrize("name, k", [(name, k) for name in KERNELS for k in (8, 12)])
def test_side_trips_end_where_a_loop_with_that_schedule_ends(run, name, k, arm):
    start = SMALL.starts[1]
    w = kernel_weights(KERNELS[name](k))
    path = plain_run(
        lambda step: SMALL.lr * (w[step - start] if step >= start else 1.0),
        start + k,
        start if arm == "other-batches" else None,
    )
    ends, _ = training.load_tensor_file(run[1] / "branch-1-ends.ckpt")
    found = row(run[0]["figure_5"], seed=1, branch=1, kernel=name, k=k, arm=arm)
    assert found.to_average == pytest.approx(
        training.distance(path[-1], ends[f"{name} k={k}"]), rel=1e-3, abs=1e-5
    )
    images = datasets.load("digits")
    model = models.mlp(images.train_x[0].size, (16, 16), images.classes, 1)
    training.load_flat(model, path[-1])
    data = datasets.Batches(images.train_x, images.train_y, 64, images.classes)
    loss, top1 = training.evaluate(model, *data.plain(images.test_x, images.test_y))
    assert (found.test_loss, found.top1) == (pytest.approx(loss, rel=1e-4), pytest.approx(top1))


def test_the_main_schedule_on_its_stream_replays_the_main_run(run):
    """And on another stream it does not."""
    main = _branches.Main.load(SMALL, 1, "cpu")
    start = main.resume(run[1] / "branch-0.ckpt")
    ends, _ = training.load_tensor_file(run[1] / "branch-0-ends.ckpt")
    rate = schedules.constant(SMALL.lr)
    same, other = (
        training.branch(start, main.data, rate, 1, stream, start.step + 12) for stream in (0, 1)
    )
    assert torch.equal(training.flat_weights(same.model), ends["raw k=12"])
    assert not torch.equal(training.flat_weights(other.model), ends["raw k=12"])


def test_late_side_trips_share_one_end(run):
    """The earliest has the schedule of the EMA over the whole window; a later one that of its last
    k steps.
    """
    start, table = SMALL.starts[1], run[0]["last_steps"]
    images = datasets.load("digits")
    model = models.mlp(images.train_x[0].size, (16, 16), images.classes, 1)
    for k in (6, 12):
        begin, w = start + 12 - k, kernel_weights(ema(k, 0.5))
        path = plain_run(
            lambda step, b=begin, w=w: SMALL.lr * (w[step - b] if step >= b else 1.0), start + 12
        )
        training.load_flat(model, path[-1])
        data = datasets.Batches(images.train_x, images.train_y, 64, images.classes)
        loss, _ = training.evaluate(model, *data.plain(images.test_x, images.test_y))
        found = row(table, seed=1, branch=1, k=k, arm="side-trip")
        assert found.test_loss == pytest.approx(loss, rel=1e-4)


# Table 1, exactly.

EXACT = table_1(ALGEBRA["quadratic"])


def judged(tables: dict[str, pd.DataFrame], preset: str, setting: str = "") -> pd.DataFrame:
    source = registry.source("sandler2023trajectories")
    there = {"table_1": EXACT.assign(dataset="quadratic", commit="", device="")} | tables
    decide = registry.decide(
        source, lambda each: there.get(each.name, pd.DataFrame()).assign(setting=setting)
    )
    rows = registry.claims_of(source)
    return claims.judge(source.name, rows, claims.measure(rows, decide), preset)


def test_end_points_agree_under_frozen_gradients():
    found = EXACT[EXACT.claim.isin(["TRAJ-25.frozen", "TRAJ-29.outside", "TRAJ-29.corrected"])]
    assert len(found) == 9 + 9 + 9 and (found.value < 1e-12).all()
    assert (found.control.dropna() > 0.1).all()


@pytest.mark.parametrize("claim, case, expected", [
    ("TRAJ-29.inside", "two-point k=100", 0.216), ("TRAJ-29.inside", "two-point k=1000", 0.0654),
    ("TRAJ-29.inside", "ema k=100", 0.0893), ("TRAJ-29.reset", "two-point k=10", 0.687),
    ("TRAJ-29.reset", "swa k=10", 0.774), ("TRAJ-29.reset", "ema k=10", 0.707),
])  # fmt: skip
def test_errors_are_those_of_white_noise_in_twenty_thousand_dimensions(claim, case, expected):
    """Numbers of an independent heavy ball at d = 20 000, good to two percent."""
    value = row(EXACT, claim=claim, case=f"quadratic {case}").value
    assert value == pytest.approx(expected, rel=0.025)


def test_table_1_is_off_inside_the_buffer_and_the_errata_are_there():
    table = judged({}, "smoke").set_index("claim")
    assert set(table.loc["TRAJ-29.inside"].verdict) == {"reproduced"}
    assert (table.loc["TRAJ-29.inside"].value > 0.01).all()
    assert set(table.loc["TRAJ-29.outside"].verdict) == {"reproduced"}
    errata = table[(table.kind == "erratum") & (table.verdict != "not tested")]
    assert {i.split(".")[0] for i in errata.index} == {"E-8", "E-9"}
    assert set(errata.verdict) == {"confirmed"}


# The checks on networks, on tables whose truth is known, with the seeds, branches and windows of
# preset cpu.


def synthetic(
    side: float, constant: float, swapped: float, seeds: int = 8, branches: int = 4
) -> pd.DataFrame:
    """A `figure_5` of digits in which raw weights lie 0.01 nats above the averages; arms: share of
    that gain they make.

    side: what a side-trip makes of it; constant: what other mini-batches alone make of it; swapped:
    what a kernel's side-trip lacks for another kernel's average.
    """
    noise = np.random.Generator(np.random.Philox(7))
    windows = [10, 100, 1000, 3000]
    rows = []
    for seed in range(seeds):
        for branch in range(branches):
            level = 0.5 + 0.02 * noise.standard_normal()

            def add(arm, kernel, k, gain, apart, at=(seed, branch), level=level):
                loss = level - 0.01 * gain + 2e-4 * noise.standard_normal()
                top1 = 0.9 + 0.01 * gain + 2e-4 * noise.standard_normal()
                rows.append(
                    (
                        *at,
                        0,
                        kernel,
                        k,
                        arm,
                        loss,
                        loss,
                        top1,
                        top1,
                        apart * noise.uniform(0.9, 1.1),
                        1.0,
                    )
                )

            add("start", "", 0, 0, 1)
            for k in (1, *windows):
                add("raw", "", k, 0, 1)
            add("average", "two-point", 1, 0, 1)
            for place, kernel in enumerate(KERNELS):
                for k in windows:
                    add("average", kernel, k, 1 + swapped * place, 1)
                    add("side-trip", kernel, k, side * (1 + swapped * place), 0.05)
            for k in (100, 1000, 3000):
                add("constant-rate", "", k, constant, 1)
                for kernel in KERNELS:
                    add("other-batches", kernel, k, side, 1)
    names = "seed branch start kernel k arm train_loss test_loss train_top1 top1 to_average travelled".split()
    return pd.DataFrame(rows, columns=names).assign(dataset="digits", commit="", device="")


def verdict(table: pd.DataFrame, claim: str, case: str) -> tuple[str, str]:
    found = row(judged({"figure_5": table}, "cpu"), claim=claim, case=case)
    return found.verdict, found.control_verdict


@functools.cache
def known(side: float, constant: float = 0.0, swapped: float = 0.0) -> pd.DataFrame:
    return judged({"figure_5": synthetic(side, constant, swapped)}, "cpu")


ROWS = [("TRAJ-22", "two-point", 1000), ("TRAJ-21", "swa", 1000), ("TRAJ-23", "ema", 3000)]


@pytest.mark.parametrize("claim, kernel, k", ROWS)
def test_equal_gains_are_reproduced_and_the_control_fails(claim, kernel, k):
    found = row(known(side=1.0), claim=f"{claim}.loss", case=f"digits {kernel} k={k}")
    assert (found.verdict, found.control_verdict) == ("reproduced", "fails")


@pytest.mark.parametrize("claim, kernel, k", ROWS)
def test_half_the_gain_is_contradicted(claim, kernel, k):
    found = row(known(side=0.5), claim=f"{claim}.loss", case=f"digits {kernel} k={k}")
    assert found.verdict == "contradicted"


@pytest.mark.parametrize("claim, kernel, k", ROWS)
def test_shuffled_arms_decide_nothing(claim, kernel, k):
    table = synthetic(side=1.0, constant=0.0, swapped=0.0)
    raw, average, side = (
        table.index[
            (table.arm == arm) & table.kernel.isin(["", kernel]) & (table.k == k)
        ].to_numpy()
        for arm in ("raw", "average", "side-trip")
    )
    order = np.random.Generator(np.random.Philox(1)).permuted(
        np.stack([raw, average, side]), axis=0
    )
    for name in ("train_loss", "test_loss", "top1"):
        table.loc[np.concatenate([raw, average, side]), name] = table.loc[
            order.ravel(), name
        ].to_numpy()
    found, _ = verdict(table, f"{claim}.loss", f"digits {kernel} k={k}")
    assert found == "inconclusive"


@pytest.mark.parametrize("claim, kernel, k", ROWS)
def test_a_control_that_gains_as_much_is_said_to_pass_too(claim, kernel, k):
    found = row(known(side=1.0, constant=1.0), claim=f"{claim}.loss", case=f"digits {kernel} k={k}")
    assert found.control_verdict == "passes too"


@pytest.mark.parametrize("swapped, expected", [(0.5, "reproduced"), (0.0, "inconclusive")])
def test_its_schedule_is_the_closest_if_others_end_elsewhere(swapped, expected):
    table = known(side=1.0, swapped=swapped)
    found = {
        row(table, claim=f"{claim}.closest", case=f"digits {kernel} k={k}").verdict
        for claim, kernel, k in ROWS
    }
    assert found == {expected}


def test_a_rival_that_ends_nearer_contradicts():
    table = synthetic(side=1.0, constant=0.0, swapped=0.0)
    table.loc[(table.arm == "side-trip") & (table.kernel == "swa"), "train_loss"] += 0.01
    assert verdict(table, "TRAJ-21.closest", "digits swa k=1000")[0] == "contradicted"


def test_a_diverged_seed_leaves_nothing_firm():
    table = synthetic(side=1.0, constant=0.0, swapped=0.0)
    kept = ["seed", "branch", "dataset", "commit", "device", "setting"]
    lost = table.loc[table.seed == 3, [name for name in kept if name in table]].drop_duplicates()
    table = pd.concat([table[table.seed != 3], lost.assign(diverged=14)], ignore_index=True)
    found = row(judged({"figure_5": table}, "cpu"), claim="TRAJ-21.loss", case="digits swa k=1000")
    assert (found.verdict, found.reason) == ("inconclusive", "1 of 8 seeds have no number")


def test_branches_of_two_seeds_are_two_seeds():
    table = synthetic(side=1.0, constant=0.0, swapped=0.0, seeds=2, branches=3)
    found = row(judged({"figure_5": table}, "cpu"), claim="TRAJ-21.loss", case="digits swa k=1000")
    assert (found.n, found.verdict) == (
        2,
        "inconclusive",
    ) and "2 seeds, fewer than 5" in found.reason


@pytest.mark.parametrize("near, far, word", [
    (0.2, 0.5, "reproduced"), (0.01, 0.5, "contradicted"),
])  # fmt: skip
def test_end_points_that_coincide_contradict_the_paper(near, far, word):
    """Section 5: significantly apart, though much less than with other mini-batches."""
    table = synthetic(side=1.0, constant=0.0, swapped=0.0)
    scale = {"side-trip": near / 0.05, "other-batches": far}
    table["to_average"] *= table.arm.map(scale).fillna(1.0)
    assert verdict(table, "TRAJ-25.real", "digits two-point k=1000")[0] == word


@pytest.mark.parametrize("share, word", [(0.3, "reproduced"), (0.9, "contradicted")])
def test_much_less_is_less_than_half_of_what_other_mini_batches_do(share, word):
    table = synthetic(side=1.0, constant=0.0, swapped=0.0)
    table["to_average"] *= table.arm.map({"side-trip": share / 0.05}).fillna(1.0)
    words = {}
    for setting in (THE_SOURCES, "stand-in: digits"):
        rows = judged({"figure_5": table}, "cpu", setting)
        found = row(rows, claim="TRAJ-26", case="digits two-point k=1000")
        words[setting] = found.verdict
    assert words == {THE_SOURCES: word, "stand-in: digits": "inconclusive"}


@pytest.mark.parametrize("gain, word", [(1.0, "reproduced"), (-1.0, "contradicted")])
def test_a_midpoint_is_held_against_the_run_at_its_end(gain, word):
    table = synthetic(side=1.0, constant=0.0, swapped=0.0)
    table.loc[table.arm == "average", "train_loss"] -= 0.01 * (gain - 1)
    assert verdict(table, "TRAJ-20.loss", "digits two-point k=1000")[0] == word


@pytest.mark.parametrize("gap, word", [(0.0, "reproduced"), (0.005, "contradicted")])
def test_losses_on_other_mini_batches_match_within_a_tenth_of_the_gain(gap, word):
    table = synthetic(side=1.0, constant=0.0, swapped=0.0)
    table.loc[table.arm == "other-batches", "train_loss"] += gap
    assert verdict(table, "TRAJ-27", "digits swa k=1000")[0] == word


def test_nothing_on_networks_is_decided_at_smoke():
    table = judged({"figure_5": synthetic(1.0, 0.0, 0.0, seeds=2, branches=2)}, "smoke")
    assert set(table[table.verdict != "not tested"].kind) <= {"exact", "erratum"}
    assert table[table.claim == "TRAJ-21.loss"].reason.tolist() == ["needs preset cpu"]


# Settings.


@pytest.mark.parametrize(
    "change",
    [
        {"lr": -0.1}, {"lr": float("nan")}, {"lr": "fast"}, {"batch": 0}, {"momentum": 1.0}, {"seeds": ()},
        {"seeds": (1, 1)}, {"swa": (10, 4000)}, {"controls": (11,)}, {"last_windows": (5000,)}, {"dataset": "mnist"},
        {"seeds": (2**32,)},
    ],
    ids=str,
)  # fmt: skip
def test_settings_refuse_what_cannot_be_run(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(PRESETS["cpu"]["digits"], **change)


def test_branch_points_stand_at_least_one_longest_window_apart():
    for settings in PRESETS.values():
        for one in settings.values():
            assert np.diff((*one.starts, one.steps)).min() >= one.longest


# On real photographs, with BatchNorm and whatever precision the machine gains by.


@pytest.mark.long
@pytest.mark.skipif(not datasets.at_hand("cifar10"), reason="cifar10 not at hand (make data)")
def test_on_cifar10_its_schedule_replays_the_main_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    settings = replace(
        PRESETS["cpu"]["cifar10"],
        seeds=(0,),
        first_branch=60,
        branches=1,
        branch_every=24,
        two_point=(8, 24),
        swa=(8, 24),
        ema=(8, 24),
        controls=(24,),
    )
    table = figure_5(settings)
    (main,) = tmp_path.glob("runs/*/main_run-*/seed0")
    torch.set_flush_denormal(True)  # as a run has it
    try:
        shared = _branches.Main.load(settings, 0, "cpu")
        start = shared.resume(main / "branch-0.ckpt")
        ends, _ = training.load_tensor_file(main / "branch-0-ends.ckpt")
        same, other = (
            training.branch(start, shared.data, shared.rate, 0, stream, start.step + 24)
            for stream in (0, 1)
        )
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(training.flat_weights(same.model), ends["raw k=24"])
    assert not torch.equal(training.flat_weights(other.model), ends["raw k=24"])
    near, far = (
        row(table, arm=arm, kernel="swa", k=24).to_average for arm in ("side-trip", "other-batches")
    )
    assert near < far


# What the judged tables are made of.


def test_the_start_of_a_window_belongs_to_every_window():
    table = figure_5.derive_table(synthetic(side=1.0, constant=0.0, swapped=0.0))
    assert (
        table.k[table.arm == "start"].isna().all() and table.k[table.arm != "start"].notna().all()
    )


def test_late_trips_are_held_against_the_longest_and_the_shortest():
    rows = [(arm, k, loss) for arm, k, loss in (("raw", 0, 0.9), ("average", 12, 0.5), ("side-trip", 3, 0.8),
                                               ("side-trip", 6, 0.6), ("side-trip", 12, 0.51))]  # fmt: skip
    table = last_steps.derive_table(pd.DataFrame(rows, columns=["arm", "k", "train_loss"]))
    losses = {arm: part.train_loss.tolist() for arm, part in table.groupby("arm")}
    assert losses["longest side-trip"] == [0.51] and losses["shortest side-trip"] == [0.8]
    assert table[table.arm == "side-trip"].k.tolist() == [3, 6]
    assert table[table.arm != "side-trip"].k.isna().all()


@pytest.mark.parametrize("entry, changes, words", [
    ("imagenet", {}, "the source's"),
    ("imagenet", {"seeds": (0,)}, "the source's"),
    ("imagenet", {"lr": 0.1}, "stand-in: ResNet-34 on imagenet"),
    ("digits", {}, "stand-in: a perceptron on digits"),
    ("cifar10", {}, "stand-in: ResNet-8 on cifar10"),
])  # fmt: skip
def test_a_stand_in_is_called_so(entry, changes, words):
    source = registry.source("sandler2023trajectories")
    settings = replace(source.presets["paper" if entry == "imagenet" else "cpu"][entry], **changes)
    assert source.setting(entry, vars(settings)) == words
