"""What is drawn is what the tables say."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from replicate import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def networks() -> pd.DataFrame:
    rows = [
        ("digits", regime, arm, seed, step, 0.01 * step, loss / (1 + step) + seed)
        for regime in ("source", "tuned")
        for arm, loss in (("plain", 4.0), ("s=0.5", 2.0))
        for seed in (0, 1)
        for step in (0, 10, 20)
    ]
    names = ["dataset", "regime", "arm", "seed", "step", "seconds", "train_loss"]
    return pd.DataFrame(rows, columns=names)


def test_arms_are_drawn_over_steps_and_over_seconds_as_means_over_seeds(networks):
    ((steps, seconds),) = plots.arms_over(networks, "tuned")
    for ax, x in ((steps, [10, 20]), (seconds, [0.1, 0.2])):
        lines = {line.get_label(): line for line in ax.lines}
        assert set(lines) == {"plain", "s=0.5"}
        np.testing.assert_allclose(lines["s=0.5"].get_xdata(), x)
        # Means of logarithms over two seeds, whose losses are 1 apart.
        np.testing.assert_allclose(
            lines["s=0.5"].get_ydata(), [np.sqrt(v * (v + 1)) for v in (2 / 11, 2 / 21)]
        )
        band = ax.collections[1].get_paths()[0].vertices  # the range of two seeds
        assert band[:, 1].min() == pytest.approx(2 / 21) and band[:, 1].max() == pytest.approx(
            13 / 11
        )


def test_a_toy_path_is_drawn_with_its_end_and_its_own_dt_only():
    lanes = (("adam", 0.0), ("GD+", 0.1), ("GD+", 0.5), ("gradient", 0.1))
    rows = [
        ("beale", arm, dt, step, 0.1 * step, 0.0, 1.0 / (1 + step) + dt)
        for arm, dt in lanes
        for step in range(3)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "arm", "dt", "step", "x", "y", "distance"])
    side = np.linspace(0, 1, 4)
    ground = pd.DataFrame(
        [("beale", x, y, x + y) for x in side for y in side], columns=["dataset", "x", "y", "value"]
    )
    ((_, right),) = plots.toy_paths(table, ground, {"beale": 0.1})
    assert [line.get_label() for line in right.lines] == [
        "adam, ends at 3.3e-01", "GD+, ends at 4.3e-01", "gradient, ends at 4.3e-01"
    ]  # fmt: skip


def test_a_rate_at_which_a_seed_diverged_has_no_point():
    rows = [("digits", "plain", lr, seed, np.nan if (lr, seed) == (0.2, 1) else lr + seed)
            for lr in (0.02, 0.2) for seed in range(5)]  # fmt: skip
    (ax,) = plots.loss_by_rate(
        pd.DataFrame(rows, columns=["dataset", "arm", "lr", "seed", "train_loss"])
    )
    drawn = [line for line in ax.lines if line.get_label() == "plain" or len(line.get_xdata()) == 1]
    assert [list(line.get_xdata()) for line in drawn][0] == [0.02]


def test_the_benefit_is_the_logarithm_of_the_ratio_of_losses():
    rows = [("digits", seed, batch, arm, loss) for seed in range(5) for batch, ratio in ((16, 10.0), (64, 100.0))
            for arm, loss in (("plain", ratio * 1.01**seed), ("s=0.5", 1.01**(2 * seed)))]  # fmt: skip
    ax = plots.benefit_by_batch(
        pd.concat(
            pd.DataFrame(rows, columns=["dataset", "seed", "batch", "arm", "train_loss"]).assign(
                regime=regime, train_loss=lambda table, power=power: table.train_loss**power
            )
            for regime, power in (("tuned", 1), ("tuned lower", 3))
        )
    )
    drawn = next(
        line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] != 0
    )
    np.testing.assert_allclose(drawn.get_ydata(), np.array([1, 2]) - 2 * np.log10(1.01))


@pytest.mark.parametrize(
    "plot, more",
    [(plots.error_orders, ()), (plots.toy_paths, (pd.DataFrame(), {})), (plots.toy_rates, ()),
     (plots.stability_map, ()), (plots.noise_and_batch, ()), (plots.basin_shares, ()),
     (plots.arms_over, ("source",)), (plots.loss_by_rate, ()), (plots.benefit_by_batch, ()), (plots.changed_weights, ()),
     (plots.one_weight, ())],
)  # fmt: skip
def test_an_empty_table_is_said_to_be_empty(plot, more):
    ax = plot(pd.DataFrame(), *more)
    assert [text.get_text() for text in ax.texts] == ["nothing recorded yet"]


def test_accuracy_is_drawn_as_it_is(networks):
    table = networks.assign(top1=0.5 + 0.01 * networks.step + 0.1 * networks.seed)
    ((steps, _),) = plots.arms_over(table, "source", "top1")
    lines = {line.get_label(): line for line in steps.lines}
    np.testing.assert_allclose(lines["plain"].get_ydata(), [0.65, 0.75])
    assert steps.get_yscale() == "linear" and steps.get_ylabel().startswith("test top-1")


def test_a_weight_is_continued_by_the_polynomials_through_its_last_states():
    steps = np.arange(45, 52)
    cubic = (steps - 48.0) ** 3
    cubic[-1] = 99.0  # where SGD goes instead
    first = pd.DataFrame({"dataset": "digits", "what": "weight", "step": steps, "weight": cubic})
    other = first.assign(seed=1, weight=-cubic)
    table = pd.concat([other, first.assign(seed=0)])
    ax = plots.one_weight(table)
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    # Through (48, 0), (49, 1), (50, 8) goes 3 (n - 48)^2 - 2 (n - 48): 21 at 51; the cubic gives 27.
    assert [star.get_ydata()[0] for star in stars] == pytest.approx([21, 27])
    assert ax.lines[1].get_ydata()[-1] == 99.0


def test_the_first_steps_of_rosenbrock_are_drawn_once_more():
    rows = [("rosenbrock", arm, dt, step, 0.0, 0.0, 1.0 / (1 + step) + dt)
            for arm, dt in (("adam", 0.0), ("GD+", 0.1)) for step in range(0, 200, 10)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["dataset", "arm", "dt", "step", "x", "y", "distance"])
    side = np.linspace(0, 1, 4)
    ground = pd.DataFrame(
        [("rosenbrock", x, y, x + y) for x in side for y in side],
        columns=["dataset", "x", "y", "value"],
    )
    ((_, right),) = plots.toy_paths(table, ground, {"rosenbrock": 0.1})
    (inset,) = right.child_axes
    assert [line.get_xdata().max() for line in inset.lines] == [100, 100]


def test_only_the_baseline_of_twice_the_steps_is_dotted_and_goes_on(networks):
    twice = networks[networks.arm == "plain"].assign(
        arm="double", step=lambda part: 2 * part.step, seconds=lambda part: 2 * part.seconds
    )
    faster = networks[networks.arm == "plain"].assign(arm="rate-2")
    ((steps, seconds),) = plots.arms_over(pd.concat([networks, twice, faster]), "source")
    for ax, end in ((steps, 40), (seconds, 0.4)):
        styles = {line.get_label(): line.get_linestyle() for line in ax.lines}
        assert styles == {"plain": "-", "s=0.5": "-", "double": ":", "rate-2": "--"}
        assert max(line.get_xdata()[-1] for line in ax.lines) == pytest.approx(end)
