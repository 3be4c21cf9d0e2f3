"""What average and side-trip predict, against a dull loop; the metrics on predictions whose truth is
known.
"""

import dull_trajectories as dull
import numpy as np
import pytest
import torch
from dull_trajectories import LAST, NET, SEED

from replicate import datasets
from replicate.sources.sandler2023trajectories import _branches, same_model


@pytest.fixture(scope="module")
def images():
    return dull.coloured()


@pytest.fixture(autouse=True)
def three_channels(monkeypatch, images):
    monkeypatch.setattr(datasets, "load", lambda name: images)


def predict(images, weights):
    """Probabilities on 64 draws, BatchNorm's statistics from one batch; and the draws' labels."""
    model, data = dull.net(images, 0), dull.batches(images)
    dull.fill(model, weights)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(dull.batches(images, NET.norm_batch).batch(0, dull.NORM, 0)[0])
        model.eval()
        x, y = zip(*(data.batch(0, dull.DRAWS, step) for step in range(4)), strict=True)
        return torch.softmax(model(torch.cat(x)), 1).double().numpy(), torch.cat(y).numpy()


def calibration(p, labels):
    """Bin by bin."""
    total = 0.0
    for low in range(15):
        inside = [i for i in range(len(p)) if low / 15 <= p[i].max() < (low + 1) / 15 + (low == 14)]
        if inside:
            right = np.mean([p[i].argmax() == labels[i] for i in inside])
            total += len(inside) / len(p) * abs(np.mean([p[i].max() for i in inside]) - right)
    return total


def test_predictions_of_every_arm_are_those_of_a_dull_loop(images, tmp_path):
    _branches.main_run(NET, {"seed": SEED}, tmp_path, [], "cpu")
    table = same_model.compare_predictions(NET, {"seed": SEED}, tmp_path, [tmp_path], "cpu")
    found, k, data = table.set_index("arm"), 30, dull.batches(images)
    falling = lambda step: dull.main_rate(step) * (1 - max(0, step - LAST) / k)  # noqa: E731
    raw = dull.walk(data, dull.net(images), dull.main_rate, LAST + k)
    trip = dull.walk(data, dull.net(images), falling, LAST + k)[-1]
    other = dull.walk(data, dull.net(images), falling, LAST + k, lambda step: int(step >= LAST))[-1]
    average = sum(raw[LAST + 1 :]) / k
    points = {"average": average, "raw": raw[-1], "side-trip": trip, "other-batches": other}
    q, labels = predict(images, average)
    for arm, weights in points.items():
        p, _ = predict(images, weights)
        apart = np.mean([sum(abs(a - b) for a, b in zip(*each, strict=True)) / 2 for each in zip(p, q, strict=True)])  # fmt: skip
        alike = np.mean([a.argmax() == b.argmax() for a, b in zip(p, q, strict=True)])
        assert found.loc[arm].apart == pytest.approx(apart, rel=5e-3, abs=1e-5)
        assert found.loc[arm].agreement == pytest.approx(alike, abs=1e-9)
        assert found.loc[arm].calibration == pytest.approx(calibration(p, labels), abs=2e-3)
    assert len(found) == 4 and found.apart.nunique() == 4
    assert found.loc["average"].apart == 0 and found.loc["average"].agreement == 1


def test_metrics_of_predictions_made_by_hand():
    sure, half = [1.0, 0.0], [0.5, 0.5]
    p, q = np.array([sure, sure, half, [0.0, 1.0]]), np.array([sure, half, half, sure])
    row = same_model._describe(p, q, np.array([0, 1, 0, 1]))
    assert row["apart"] == pytest.approx((0 + 0.5 + 0 + 1) / 4)
    assert row["agreement"] == 0.75
    # three sure ones, two of them right; one half sure, right
    assert row["calibration"] == pytest.approx(3 / 4 * (1 - 2 / 3) + 1 / 4 * 0.5)
    assert same_model._describe(q, q, np.array([0, 1, 1, 0]))["calibration"] == pytest.approx(
        2 / 4 * 0 + 2 / 4 * 0.5
    )


def test_confidence_that_is_borne_out_is_calibrated():
    generator = np.random.default_rng(0)
    p = generator.dirichlet([1.0] * 4, 40_000)
    labels = (generator.random((40_000, 1)) > p.cumsum(1)).sum(1)
    assert same_model._calibration_error(p, labels) < 0.01
    assert same_model._calibration_error(p**3 / (p**3).sum(1, keepdims=True), labels) > 0.1
