"""Figures 6, 7 and 8 and the continuations, every arm and metric against a dull loop; what is judged,
on tables whose truth is known.
"""

import copy
import functools
from itertools import combinations

import dull_trajectories as dull
import numpy as np
import pandas as pd
import pytest
import torch
from dull_trajectories import LAST, NET, SEED

from replicate.sources.protocol import Source
from replicate.sources.sandler2023trajectories import (
    continuations,
    figure_6,
    figure_7,
    figure_8,
)

SOURCE = Source("sandler2023trajectories")
LOSSES = ("train_loss", "train_top1", "test_loss", "top1")
FIXED, FRESH, AGAIN = (dull.DRAWS + i for i in (2, 3, 4))


@pytest.fixture(scope="module")
def images():
    return dull.coloured()


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Where the main run left its states."""
    with dull.loading(images):
        yield dull.leave_states(NET, images, tmp_path_factory.mktemp("main"))


@pytest.fixture(scope="module")
def follow(images):
    """(factor, stream, decay) -> the weights of k = 0 .. 30 after the last branch point, by k."""
    data, before = dull.batches(images), dull.net(images)
    momenta = [torch.zeros_like(p) for p in before.parameters()]
    dull.walk(data, before, dull.main_rate, LAST, momenta=momenta)

    @functools.cache
    def path(factor=1.0, stream=0, decay=None):
        def rate(step):
            falling = 1 - (step - LAST) / decay if decay else 1.0
            return dull.main_rate(step) * falling * factor

        model, buffers = copy.deepcopy((before, momenta))
        return dull.walk(data, model, rate, 30, lambda step: stream, momenta=buffers, start=LAST)

    return path


def test_every_point_of_figure_6_is_that_of_a_dull_loop(folder, images, follow):
    table = figure_6.follow_trips(NET, {"seed": SEED}, folder, [folder], "cpu")
    found = dull.rows_by(table, "arm", "k")
    raw, half = follow(), follow(0.5)
    other, other_half = follow(stream=1), follow(0.5, stream=1)
    for k in (10, 30):
        midpoint = (raw[0] + raw[k]) / 2
        pairs = {"raw": (raw, other[k]), "other-batches": (other, raw[k]), "half-rate": (half, midpoint),
                 "other half-rate": (other_half, midpoint), "midpoint": ({k: midpoint}, half[k])}  # fmt: skip
        for arm, (path, counterpart) in pairs.items():
            expected = dull.measure(images, path[k]) | {
                "apart": dull.distance(path[k], counterpart),
                "travelled": dull.distance(path[k], raw[0]),
            }
            dull.agrees(found.pop((arm, k)), expected, (*LOSSES, "apart", "travelled"))
    assert not found


def test_figure_6_is_judged_by_losses_all_along():
    table = pd.DataFrame({"seed": 0, "arm": ["raw"] * 3 + ["midpoint"], "k": [10, 30, 100, 10],
                          "train_loss": [1.0, 2.0, 6.0, 5.0], "apart": [1.0, 1.0, 4.0, 2.0]})  # fmt: skip
    judged = SOURCE["figure_6"].derive_table(table.assign(dataset="digits"))
    means = judged[judged.k.isna()].set_index("arm")
    assert means.train_loss.to_dict() == {"raw all along": 3.0, "midpoint all along": 5.0}
    assert len(judged) == 6 and judged.dataset.notna().all()


@pytest.fixture(scope="module")
def gradients(folder):
    return figure_7.follow_gradients(NET, {"seed": SEED}, folder, [folder], "cpu")


def batches_of_figure_7(images):
    """Fixed batches, fresh ones by look, and the fixed images with other noise."""
    data = dull.batches(images)
    fixed = [data.batch(SEED, FIXED, number) for number in range(20)]
    fresh = {k: [data.batch(SEED, FRESH, 20 * k + number) for number in range(20)] for k in (0, 10, 30)}  # fmt: skip
    again = []
    for number in range(20):
        epoch, index = divmod(number, len(images.train_y) // NET.batch)
        tables = data.tables(SEED, AGAIN, epoch)
        tables["order"] = data.tables(SEED, FIXED, epoch)["order"]
        rows = slice(NET.batch * index, NET.batch * (index + 1))
        again.append(data.gather({name: table[rows] for name, table in tables.items()}))
    return fixed, fresh, again


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_every_gradient_of_figure_7_is_that_of_a_dull_loop(gradients, images, follow):
    """Kinks of ReLU make single gradients differ by a percent, where rounding crosses them."""
    model, found, errors = dull.net(images, 0), dull.rows_by(gradients, "arm", "k", "batch"), []
    fixed, fresh, again = batches_of_figure_7(images)
    paths = {"constant": follow(), "decaying": follow(decay=30)}
    others = {"constant": follow(stream=1), "decaying": follow(stream=1, decay=30)}
    for number in range(20):
        at = {
            (arm, k): dull.gradient(model, path[k], fixed[number])
            for arm, path in paths.items()
            for k in (0, 10, 30)
        }
        for arm, path in others.items():
            at[f"other {arm}", 30] = dull.gradient(model, path[30], fixed[number])
        first = at["constant", 0][0]
        for (arm, k), (own, loss) in at.items():
            expected = {"cosine": cosine(own, first), "parallel": cosine(own, at["constant", k][0]),
                        "norm": np.sqrt((own @ own) / (first @ first)), "loss": loss}  # fmt: skip
            errors.append(dull.error(found.pop((arm, k, number)), expected, expected))
        beside = {("fresh batches", k): fresh[k][number] for k in (0, 10, 30)}
        for (arm, k), batch in (beside | {("same images", 30): again[number]}).items():
            own, loss = dull.gradient(model, paths["constant"][k], batch)
            expected = {"between": cosine(own, at["constant", k][0]), "loss": loss,
                        "norm": np.sqrt((own @ own) / (first @ first))}  # fmt: skip
            errors.append(dull.error(found.pop((arm, k, number)), expected, expected))
    assert not found and len(errors) == 20 * 12
    assert np.median(errors) < 1e-3 and np.quantile(errors, 0.95) < 0.02


def test_the_same_images_are_the_fixed_ones_and_their_noise_is_not(images):
    fixed, _, again = batches_of_figure_7(images)
    same = [float((a == b).double().mean()) for (_, a), (_, b) in zip(fixed, again, strict=True)]
    assert np.mean(same) > 0.7  # a tenth of the labels is drawn anew in either
    assert not (fixed[0][0] == again[0][0]).any()


def test_figure_7_is_judged_by_percentiles_over_batches(gradients):
    table = gradients.assign(dataset="digits", seed=SEED)
    judged = dull.rows_by(SOURCE["figure_7"].derive_table(table), "arm", "k")
    part = gradients[(gradients.arm == "decaying") & (gradients.k == 30)]
    row = judged["decaying", 30]
    for name in ("cosine", "parallel", "norm", "loss"):
        assert row[name] == pytest.approx(part[name].mean())
    cosines, changes = np.sort(part.cosine), np.sort((part.norm - 1).abs())
    assert row["low_cosine"] == pytest.approx(0.05 * cosines[0] + 0.95 * cosines[1])  # 0.95 of 19
    assert row["norm_change"] == pytest.approx(0.8 * changes[15] + 0.2 * changes[16])  # 15.2 of 19
    assert np.isnan(row["between"]) and np.isnan(judged["fresh batches", 10]["cosine"])


def test_distances_of_figure_8_are_those_of_a_dull_loop(folder, images):
    half = NET.first_branch
    table = figure_8.follow_run(NET, {"seed": SEED}, folder, [], "cpu")
    path = dull.walk(dull.batches(images), dull.net(images), dull.main_rate, 2 * half)
    branch = dull.walk(dull.batches(images), dull.net(images), dull.main_rate, 2 * half, lambda step: int(step >= half))  # fmt: skip
    alien = 2**32 - 1 - SEED
    another = dull.walk(dull.batches(images), dull.net(images, alien), dull.main_rate, half, seed=alien)  # fmt: skip
    found = dull.rows_by(table, "arm", "step")
    for step in range(2 * half + 1):
        for arm, end in (("continuation", branch[-1]), ("another initialisation", another[-1])):
            expected = dull.distance(path[step], end)
            assert found.pop((arm, step))["distance"] == pytest.approx(expected, rel=1e-3)
    assert not found


def curve(before: list[float], after: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"seed": 0, "dataset": "digits", "arm": "continuation",
                         "look": range(len(before) + len(after)), "distance": before + after})  # fmt: skip


def test_figure_8_is_judged_by_falls_before_and_drift_after_the_branch():
    before = list(np.linspace(10, 4, 25))
    before[7] = before[6] + 1  # one rise in 24
    after = list(np.linspace(4, 3, 16)) + [3.0] * 4 + [3.6] * 4
    judged = SOURCE["figure_8"].derive_table(curve(before, after)).set_index("arm")
    row = judged.loc["continuation"]
    assert row.falls == pytest.approx(23 / 24) and row.drift == pytest.approx(0.6 / 3.3)
    thirds = np.array(before[-8:]).reshape(2, 4).mean(1)
    expected = (thirds[1] - thirds[0]) / thirds.mean()
    assert judged.loc["before the branch"].drift == pytest.approx(expected) and expected < -0.1


def test_continuations_are_those_of_dull_loops(folder, follow):
    table = continuations.continue_run(NET, {"seed": SEED}, folder, [folder], "cpu").set_index(
        "arm"
    )
    points = {
        "continuations": [follow(stream=100 + i)[-1].numpy() for i in range(8)],
        "one continuation": [follow(stream=100)[k].numpy() for k in (3, 7, 11, 15, 18, 22, 26, 30)],
    }
    for arm, ends in points.items():
        centre = sum(ends) / 8
        pairs = list(combinations(range(8), 2))
        distances = [np.linalg.norm(ends[i] - ends[j]) for i, j in pairs]
        cosines = [cosine(ends[i] - centre, ends[j] - centre) for i, j in pairs]
        row = table.loc[arm]
        assert row.spread == pytest.approx(np.std(distances, ddof=1) / np.mean(distances), rel=1e-2)
        assert row.largest_cosine == pytest.approx(max(abs(c + 1 / 7) for c in cosines), rel=1e-2)
        radius = np.sqrt(np.mean([((end - centre) ** 2).sum() for end in ends]))
        assert row.radius == pytest.approx(radius, rel=1e-3)
    assert table.loc["gaussian points"].radius == pytest.approx(table.loc["continuations"].radius)
    assert table.loc["gaussian points"].spread < 0.1 < table.loc["one continuation"].spread


def test_points_on_a_simplex_have_neither_spread_nor_directions_of_their_own():
    even = continuations._describe(3 * np.eye(8))
    assert even["spread"] < 1e-12 and even["largest_cosine"] < 1e-12
    assert even["radius"] == pytest.approx(3 * np.sqrt(7 / 8))
    line = continuations._describe(np.arange(8.0)[:, None] * np.ones((1, 5)))
    assert line["spread"] > 0.5 and line["largest_cosine"] == pytest.approx(1 + 1 / 7)
