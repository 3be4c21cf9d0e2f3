"""A comparison gives what arithmetic says of a quadratic, and what a plain loop gives."""

import numpy as np
import pytest
import torch
from quadratics import (
    KAPPA,
    MOMENTUM,
    NOISE,
    RATE,
    Quadratic,
    compare_quadratic,
    draw,
    loss,
    slope,
    walk,
)

from replicate import compare
from replicate.averaging import ema, kernel_weights, swa, two_point
from replicate.cooldown.predict import gains


@pytest.mark.parametrize("kernel", [swa, two_point, ema], ids=lambda kernel: kernel.__name__)
def test_without_curvature_average_and_cool_down_are_the_same_weights(kernel):
    """Lemma 2: gradients that do not depend on the weights. A constant rate is another thing."""
    table = compare_quadratic(np.zeros(5), kernel=kernel).table
    assert (table.apart < 1e-12 * table.travelled).all() and (table.travelled > 0.1).all()
    assert (table.independent > 0.1).all()


def dull(window, steps, branches, run, mu):
    """The losses of a run's ends, and distances, by loops over numbers."""
    main, other = 4 + 2 * run, 5 + 2 * run
    w = v = np.zeros(len(KAPPA))
    weights, rows, step = kernel_weights(mu), [], 0
    for branch in range(branches):
        start = (branch + 1) * steps // branches - window
        path, v = walk(w, v, [RATE] * (start - step), main, step)
        at = path[-1] if len(path) else w
        iterates, after = walk(at, v, [RATE] * window, main, start)
        ends = {
            "raw": iterates[-1],
            "average": mu[0] * at + mu[1:] @ iterates,
            "cool_down": walk(at, v, RATE * weights, main, start)[0][-1],
            "constant": walk(at, v, [RATE] * window, other, start)[0][-1],
            "other_cool_down": walk(at, v, RATE * weights, other, start)[0][-1],
        }
        row = {name: 0.5 * (KAPPA * end**2).sum() for name, end in ends.items()}
        for name, (a, b) in {
            "apart": ("average", "cool_down"),
            "independent": ("cool_down", "other_cool_down"),
            "travelled": ("average", "raw"),
        }.items():
            row[name] = np.linalg.norm(ends[a] - ends[b])
        rows.append(row | {"run": run, "branch": branch, "start": start})
        w, v, step = iterates[-1], after, start + window
    return rows


@pytest.mark.parametrize("kernel", [swa, two_point, ema], ids=lambda kernel: kernel.__name__)
def test_every_number_is_that_of_a_plain_loop(kernel):
    table = compare_quadratic(kernel=kernel, window=20, steps=127, branches=3).table
    rows = [row for run in range(2) for row in dull(20, 127, 3, run, kernel(20))]
    for name in rows[0]:
        assert table[name].to_numpy() == pytest.approx([row[name] for row in rows], rel=1e-9), name
    first = table.branch == 0
    assert (table.replay[first] == table.cool_down[first]).all() and table.replay[
        ~first
    ].isna().all()


FAST = np.array([0.5, 1.0, 2.0, 4.0, 8.0])  # settled after a hundred steps


def test_gains_are_the_expected_ones():
    """Means over runs beside the exact expectation."""
    table = compare_quadratic(FAST, runs=30, branches=1, window=20, steps=120).table
    exact = gains(FAST, NOISE, RATE, MOMENTUM, swa(20))
    for arm in ("average", "cool_down"):
        gain = table.raw - table[arm]
        assert abs(gain.mean() - exact[arm]) < 4 * gain.std() / np.sqrt(len(gain)), arm


def test_predictions_of_several_runs_scatter_around_the_exact_one():
    """200 gradients a run give each variance to a tenth."""
    table = compare_quadratic(FAST, runs=6, branches=1, window=20, steps=20, directions=5).table
    exact = gains(FAST, NOISE, RATE, MOMENTUM, swa(20))
    for arm in ("average", "cool_down"):
        predicted = table[f"predicted_{arm}"]
        assert predicted.mean() == pytest.approx(exact[arm], rel=0.1)
        assert 0.005 * exact[arm] < predicted.std() < 0.15 * exact[arm]


def test_a_prediction_is_that_of_the_gradients_that_it_saw():
    """Curvature exact, noise the sample variance of just these gradients."""
    (row,) = compare_quadratic(
        FAST, runs=1, branches=1, window=20, steps=40, directions=5
    ).table.to_dict("records")
    seen = np.array([slope(3, step) for step in range(200)]).var(0, ddof=1)
    expected = gains(FAST, seen, RATE, MOMENTUM, swa(20))
    assert row["predicted_average"] == pytest.approx(expected["average"], rel=1e-6)
    assert row["predicted_cool_down"] == pytest.approx(expected["cool_down"], rel=1e-6)


def test_what_a_decay_of_weights_adds_to_the_curvature_is_predicted():
    model = Quadratic(FAST)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=0.5)
    table = compare(
        model, loss, draw, optimizer, window=5, steps=5, branches=1, runs=1, directions=5
    ).table
    seen = np.array([slope(3, step) for step in range(200)]).var(0, ddof=1)
    expected = gains(FAST + 0.5, seen, RATE, MOMENTUM, swa(5))
    assert table.predicted_average[0] == pytest.approx(expected["average"], rel=1e-6)


def test_rates_of_groups_and_a_schedule_reach_every_walk():
    """Two groups with rates of their own under a falling schedule, beside a plain loop."""
    model = torch.nn.ParameterList(
        [torch.zeros(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
    )
    optimizer = torch.optim.SGD(
        [{"params": [model[0]], "lr": 0.1}, {"params": [model[1]], "lr": 0.02}]
    )

    def linear(model, noise):
        return (torch.cat(list(model)) * noise).sum() + (torch.cat(list(model)) ** 2).sum()

    table = compare(model, linear, draw, optimizer, window=4, steps=6, branches=1, runs=1,
                    schedule=lambda step: 1 / (1 + step), held_out=[torch.zeros(5).double()]).table  # fmt: skip
    rates, w = np.array([0.1, 0.1, 0.02, 0.02, 0.02]), np.zeros(5)
    for step in range(6):
        fall = 1.0 if step < 2 else (1.0, 0.75, 0.5, 0.25)[step - 2]
        w = w - rates / (1 + step) * fall * (2 * w + slope(4, step))
    assert table.cool_down[0] == pytest.approx((w**2).sum(), rel=1e-12)


def test_model_optimizer_modes_and_generators_are_as_before():
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.5)
    )
    model[1].eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(3, 5)).sum().backward()
    optimizer.step()
    before = [value.clone() for value in model.state_dict().values()]
    state = optimizer.state_dict()["state"][0]["exp_avg"].clone()
    slopes = [each.grad.clone() for each in model.parameters()]
    torch.manual_seed(1), np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1), np.random.seed(1)  # noqa: NPY002
    compare(model, lambda model, x: (model(x.float()[None].repeat(2, 1)) ** 2).mean(), draw, optimizer,
            window=2, steps=4, branches=1, runs=1)  # fmt: skip
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    assert all(map(torch.equal, before, model.state_dict().values()))
    assert torch.equal(state, optimizer.state_dict()["state"][0]["exp_avg"])
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert all(map(torch.equal, slopes, (each.grad for each in model.parameters())))
    assert [layer.training for layer in model] == [True, False, True]
