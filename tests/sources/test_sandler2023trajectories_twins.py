"""Figure 5, the late side-trips of Table 1's caption and the spectrum on a small net with BatchNorm,
weight decay, warm-up, flips and noise: every arm and metric against a dull loop.
"""

import copy
from dataclasses import replace

import dull_trajectories as dull
import numpy as np
import pytest
import torch
from dull_trajectories import NET, SEED

from replicate.averaging import ema, kernel_weights, swa, two_point
from replicate.sources.sandler2023trajectories import (
    _branches,
    figure_5,
    last_steps,
    spectrum,
)

KERNELS = {"two-point": two_point, "swa": swa, "ema": ema}
TINY = replace(
    NET, branch_every=12, two_point=(6, 12), swa=(6, 12), ema=(6, 12), controls=(12,), last_windows=(6, 12),
    last_delta=0.2, noise_gradients=12,
)  # fmt: skip
LONG = TINY.longest
LAST, BRANCH = TINY.starts[-1], TINY.branches - 1
LOSSES = ("train_loss", "train_top1", "test_loss", "top1")


@pytest.fixture(scope="module")
def images():
    return dull.coloured()


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Where the main run left its states."""
    with dull.loading(images):
        yield dull.leave_states(TINY, images, tmp_path_factory.mktemp("main"))


@pytest.fixture(scope="module")
def follow(images):
    """(factors, stream, late) -> the weights from `late` steps after the last branch point on, for as
    many steps as there are factors of the main run's rate.
    """
    data, model = dull.batches(images), dull.net(images)
    momenta = [torch.zeros_like(p) for p in model.parameters()]
    dull.walk(data, model, dull.main_rate, LAST, momenta=momenta)
    begun = {0: (model, momenta)}
    later = copy.deepcopy(begun[0])
    dull.walk(data, later[0], dull.main_rate, 6, momenta=later[1], start=LAST)
    begun[6] = later

    def path(factors, stream=0, late=0):
        model, momenta = copy.deepcopy(begun[late])
        first = LAST + late

        def rate(step):
            return dull.main_rate(step) * factors[step - first]

        steps = len(factors)
        return dull.walk(
            data, model, rate, steps, lambda step: stream, momenta=momenta, start=first
        )

    return path


@pytest.fixture(scope="module")
def raw(follow):
    return follow(np.ones(LONG))


def mean(mu, path):
    return sum(float(m) * theta for m, theta in zip(mu, path, strict=False))


def ends_of(follow, raw) -> dict:
    """(arm, kernel, k) -> weights, and the average that they are held against."""
    start = raw[0]
    ends = {("start", "", 0): (start, start), ("average", "two-point", 1): 2 * ((raw[0] + raw[1]) / 2,)}  # fmt: skip
    ends |= {("raw", "", k): (raw[k], start) for k in (1, 6, LONG)}
    for name, kernel in KERNELS.items():
        for k in (6, LONG):
            average, w = mean(kernel(k), raw), kernel_weights(kernel(k))
            ends["average", name, k] = average, average
            ends["side-trip", name, k] = follow(w)[-1], average
        ends["other-batches", name, LONG] = follow(w, stream=1)[-1], average
    return ends | {("constant-rate", "", LONG): (follow(np.ones(LONG), stream=1)[-1], start)}


def test_every_arm_and_metric_of_figure_5_is_that_of_a_dull_loop(folder, images, follow, raw):
    point = {"seed": SEED, "branch": BRANCH}
    table = figure_5.side_trips(TINY, point, folder / "trips", [folder], "cpu")
    found = dull.rows_by(table, "arm", "kernel", "k")
    for cell, (weights, average) in ends_of(follow, raw).items():
        row = found.pop(cell)
        assert row["start"] == LAST
        dull.agrees(row, dull.measure(images, weights), LOSSES, rel=5e-3)
        for name, pair in {
            "to_average": (weights, average),
            "travelled": (average, raw[0]),
        }.items():
            expected = dull.distance(*pair)
            assert row[name] == pytest.approx(expected, rel=1e-2, abs=1e-5), (cell, name)
    assert not found


def test_late_side_trips_are_those_of_a_dull_loop(folder, images, follow, raw):
    point = {"seed": SEED, "branch": BRANCH}
    table = last_steps.run_late_trips(TINY, point, folder / "late", [folder], "cpu")
    found = dull.rows_by(table, "arm", "k")
    ends = {("raw", 0): raw[-1], ("average", LONG): mean(ema(LONG, 0.2), raw)}
    for k in (6, LONG):
        ends["side-trip", k] = follow(kernel_weights(ema(k, 0.2)), late=LONG - k)[-1]
    for cell, weights in ends.items():
        dull.agrees(found.pop(cell), dull.measure(images, weights), LOSSES, rel=5e-3)
    assert not found


# The spectrum, at the first branch point: products with the Hessian and gradients that are kept.


@pytest.fixture(scope="module")
def measured(folder):
    return spectrum.measure_spectrum(TINY, {"seed": SEED}, folder, [folder], "cpu")


def test_the_spectrum_is_that_of_exact_products_and_kept_gradients(measured, images):
    data, first = dull.batches(images), TINY.first_branch
    path = dull.walk(data, dull.net(images), dull.main_rate, first + LONG)[first:]
    middle = sum(path[1:]) / LONG
    main = _branches.Main.load(TINY, SEED, "cpu")
    vectors = spectrum._find_directions(main, middle.float()).vectors.double()
    rows = measured[measured.what == "direction"]
    product = dull.product_with_hessian(images, middle)
    kept = [
        dull.gradient(dull.net(images, 0), middle, data.batch(SEED, dull.DRAWS + 1, step))[0]
        for step in range(12)
    ]
    along = np.array([vectors.numpy() @ theta.numpy() for theta in path[1:]])
    for place, u in enumerate(vectors.numpy()):
        row, bent = rows.iloc[place], product(u)
        assert row.direction == place and u @ u == pytest.approx(1, abs=1e-5)
        assert row.curvature == pytest.approx(u @ bent, rel=1e-2)
        assert row.residual == pytest.approx(np.linalg.norm(bent - row.curvature * u), rel=2e-2)
        assert row.noise == pytest.approx(np.var(np.array(kept) @ u, ddof=1), rel=2e-2)
        assert row.variance == pytest.approx(along[:, place].var(), rel=2e-2)
    assert len(rows) == len(vectors) == TINY.directions and rows.curvature.is_monotonic_decreasing
