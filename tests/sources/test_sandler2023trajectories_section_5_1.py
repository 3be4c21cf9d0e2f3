"""Section 5.1 on networks: averages under drift, flatness and steep directions, each against a dull
loop or exact products with the Hessian; what is judged, on tables whose truth is known.
"""

from dataclasses import replace

import dull_trajectories as dull
import numpy as np
import pandas as pd
import pytest
import torch
from dull_trajectories import LAST, NET, SEED
from scipy import ndimage
from scipy.sparse.linalg import LinearOperator, eigsh

from replicate import datasets
from replicate.sources.protocol import Source
from replicate.sources.sandler2023trajectories import (
    _branches,
    _hessian,
    _turning,
    drifting_data,
    flatness,
    steep_directions,
)

SOURCE = Source("sandler2023trajectories")


@pytest.fixture(scope="module")
def images():
    return dull.coloured()


@pytest.fixture(autouse=True)
def three_channels(monkeypatch, images):
    monkeypatch.setattr(datasets, "load", lambda name: images)


# Data that turn.


def spot(row, column):
    """An image of zeros but for one pixel."""
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[0, row, column, 0] = 16
    return image


@pytest.mark.parametrize("degrees, start, there", [
    (90, (1, 1), (6, 1)), (180, (1, 1), (6, 6)), (-90, (1, 1), (1, 6)), (360, (1, 2), (1, 2)),
])  # fmt: skip
def test_images_turn_counter_clockwise_about_their_middle(degrees, start, there):
    np.testing.assert_array_equal(_turning.turn(spot(*start), degrees), spot(*there))


@pytest.mark.parametrize("degrees", [30, 135, -77])
def test_a_turn_between_pixels_is_that_of_scipy(images, degrees):
    """Which turns the other way about, plane by plane; edges repeated."""
    x = images.train_x[:20, :, :7]  # not square
    expected = ndimage.rotate(x.astype(float), degrees, (2, 1), False, order=1, mode="nearest")
    turned = _turning.turn(x, degrees)
    assert np.abs(turned - expected).max() < 0.51 and turned.dtype == np.uint8
    assert np.abs(turned - x.astype(float)).mean() > 1


def turned(images, degrees, step, steps):
    """Mini-batches as they stand at a step: turned once an epoch of 4 steps."""
    x = _turning.turn(images.train_x, degrees * (step // 4 * 4) / steps)
    return dull.batches(datasets.Images(**(vars(images) | {"train_x": x})))


def test_every_loss_under_drift_is_that_of_a_dull_loop(images, tmp_path):
    """The first, a middle and the last look of every arm."""
    table = drifting_data.train_with_drift(NET, {"seed": SEED}, tmp_path, [], "cpu")
    found = dull.rows_by(table, "drift", "arm", "step")
    steps = NET.first_branch // 2
    for drift, degrees in (("none", 0.0), ("slow", 90.0), ("fast", 360.0)):
        for arm, factor in (("large rate", 1.0), ("small rate", 0.4), ("smallest rate", 0.1)):
            path = walk_turning(images, degrees, factor, steps)
            averaged = [path[0]]
            for step in range(1, steps + 1):
                averaged.append(averaged[-1] + (path[step] - averaged[-1]) / (steps // 6))
            names = {"large rate": "average", "small rate": "average at the small rate"}
            points = {arm: path} | ({names[arm]: averaged} if arm in names else {})
            for step in (1, 7, steps):
                data = turned(images, degrees, step - 1, steps)
                for name, along in points.items():
                    expected = loss_on_draws(data, along[step], images)
                    loss = found[drift, name, step]["loss"]
                    assert loss == pytest.approx(expected, rel=5e-3), (drift, name, step)
    assert set(table.arm) == set(drifting_data.ARMS) and len(table) == 3 * 5 * steps


def walk_turning(images, degrees, factor, steps):
    class Data:
        def batch(self, seed, stream, step):
            return turned(images, degrees, step, steps).batch(seed, stream, step)

    return dull.walk(Data(), dull.net(images), lambda step: factor * NET.lr, steps)


def loss_on_draws(data, weights, images):
    """Of 64 draws of these images, BatchNorm's statistics from one batch of the same images."""
    model = dull.net(images, 0)
    dull.fill(model, weights)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(data.resize(NET.norm_batch).batch(0, dull.NORM, 0)[0])
        model.eval()
        draws = [data.batch(0, dull.DRAWS, step) for step in range(4)]
        x, y = (torch.cat(each) for each in zip(*draws, strict=True))
        return float(torch.nn.functional.cross_entropy(model(x), y))


def test_drift_is_judged_by_the_second_half_and_by_the_large_rates_last_level():
    steps = list(range(10, 110, 10))
    losses = {"large rate": [5, 4, 3, 2, 2, 2, 2, 1, 1, 1], "average": [5, 5, 4, 3, 1, 1, 1, 1, 1, 1],
              "small rate": [9, 8, 7, 6, 5, 4, 3, 2, 2, 1.0625]}  # fmt: skip
    rows = [{"arm": arm, "step": step, "loss": float(loss)} for arm, curve in losses.items()
            for step, loss in zip(steps, curve, strict=True)]  # fmt: skip
    table = pd.DataFrame(rows).assign(seed=0, dataset="digits", drift="none")
    judged = SOURCE["drifting_data"].derive_table(table).set_index("arm")
    assert judged.late_loss.to_dict() == {"large rate": 1.4, "average": 1.0, "small rate": 2.4125}
    assert judged.loc["average"].steps == 50 and judged.loc["large rate"].steps == 80
    assert np.isnan(judged.loc["small rate"].steps) and (judged.longest == 100).all()


# Flatness and directions.


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Where the main run left its states."""
    return dull.leave_states(NET, images, tmp_path_factory.mktemp("main"))


def ends_of(images, k):
    """The last window's start, end, SWA average and side-trip, by a dull loop."""
    falling = lambda step: dull.main_rate(step) * (1 - max(0, step - LAST) / k)  # noqa: E731
    raw = dull.walk(dull.batches(images), dull.net(images), dull.main_rate, LAST + k)[LAST:]
    trip = dull.walk(dull.batches(images), dull.net(images), falling, LAST + k)[-1]
    return {"start": raw[0], "raw": raw[-1], "average": sum(raw[1:]) / k, "side-trip": trip}


def test_flatness_is_that_of_exact_products_at_a_dull_loops_points(folder, images):
    table = flatness.measure_flatness(NET, {"seed": SEED}, folder, [folder], "cpu")
    found = table.set_index("arm")
    probes = [
        np.sign(_hessian.rng(SEED, "eval", probe + 1, dull.DRAWS + 5).standard_normal(len(start)))
        for start in [dull.join(dull.net(images))]
        for probe in range(20)
    ]
    for arm, weights in ends_of(images, 30).items():
        product = dull.product_with_hessian(images, weights)
        size = 2 * (len(weights),)
        (largest,) = eigsh(
            LinearOperator(size, product), 1, which="LA", tol=1e-3, return_eigenvectors=False
        )
        assert found.loc[arm].sharpness == pytest.approx(largest, rel=0.02)
        estimate = np.mean([z @ product(z) for z in probes])
        assert found.loc[arm].trace == pytest.approx(estimate, rel=0.02)
    assert len(found) == 4 and found.sharpness.nunique() == 4


def test_the_trace_of_many_probes_is_the_trace():
    matrix = torch.diag(torch.arange(1.0, 6.0)) + 0.1
    estimate = _hessian.estimate_trace(lambda v: matrix @ v, torch.zeros(5), 0, 500)
    assert estimate == pytest.approx(15.5, rel=0.01)


def test_shares_of_variance_are_those_of_a_dull_loop(folder, images):
    """Directions of the program, the path of a dull loop."""
    table = steep_directions.follow_directions(NET, {"seed": SEED}, folder, [folder], "cpu")
    main = _branches.Main.load(NET, SEED, "cpu")
    raw = dull.walk(dull.batches(images), dull.net(images), dull.main_rate, LAST + 30)[LAST:]
    middle = (sum(raw[1:]) / 30).float()
    spectrum = _hessian.find_directions(main, middle, NET.directions)
    vectors = spectrum.vectors.double()
    gram = vectors @ vectors.T
    torch.testing.assert_close(gram, torch.eye(6).double(), atol=1e-4, rtol=0)
    random = steep_directions._draw_directions(SEED, middle, 2)
    groups = {"steep": vectors[:2], "flat": vectors[4:], "random": random[0].double(), "other random": random[1].double()}  # fmt: skip
    delta = 5 / 10  # a window of a third of the path
    for arm, directions in groups.items():
        along = np.array([(directions @ theta).numpy() for theta in raw[1:]])
        averaged, value = [], along[0]
        for point in along:
            value = (1 - delta) * value + delta * point
            averaged.append(value)
        shares = np.var(averaged[10:], axis=0) / np.var(along[10:], axis=0)
        row = table[table.arm == arm].iloc[0]
        assert row.share == pytest.approx(shares.mean(), rel=0.02)
    assert table.set_index("arm").loc["steep"].curvature == pytest.approx(spectrum.values[:2].mean(), rel=0.02)  # fmt: skip
    assert table[table.arm == "steep"].curvature.iloc[0] > table[table.arm == "flat"].curvature.iloc[0]  # fmt: skip
    both = torch.cat(list(random)).double()
    torch.testing.assert_close(both @ both.T, torch.eye(4).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["flatness", "steep_directions"])
def test_without_directions_there_is_no_table_and_no_cost(name):
    none = replace(NET, directions=0)
    assert SOURCE[name](none).empty and SOURCE[name].operations(none) == 0.0
