"""What is drawn of cool-downs and kernels is what the tables say."""

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


def test_foretold_losses_are_drawn_against_those_after_the_cool_down():
    losses = {"raw": 3.0, "average": 1.5, "moving average": 2.0, "extrapolated": 0.5, "cooled": 1.0}
    rows = [{"dataset": data, "seed": seed, "time": time, "k": k, "arm": arm, "train_loss": loss + seed + 10 * k + far}
            for data, far in (("digits", 0), ("cifar10-1000", 99)) for seed in (0, 1)
            for time in ("1/2", "1") for k in (10, 100) for arm, loss in losses.items()]  # fmt: skip
    (first, second), others = plots.cooldowns(pd.DataFrame(rows))
    assert sorted(others[1].lines[0].get_xdata()) == [1100, 1100, 1101, 1101]
    drawn = {line.get_label(): line for line in second.lines}
    for arm in ("raw", "average", "moving average", "extrapolated"):
        assert sorted(drawn[arm].get_xdata()) == [1001, 1001, 1002, 1002]
        assert set(drawn[arm].get_ydata() - drawn[arm].get_xdata()) == {losses[arm] - 1.0}
    assert list(second.lines[-1].get_xdata()) == list(second.lines[-1].get_ydata()) == [1001, 1002]
    assert first.get_title() == "k = 10 steps" and plots.cooldowns(pd.DataFrame()) is not None


def test_gains_of_kernels_are_over_the_windows_end():
    losses = {"raw": 3.0, "best": 1.0, "uniform": 1.5, "linear": 2.0, "exponential": 2.5}
    rows = [{"dataset": "digits", "seed": seed, "continuation": i, "k": k, "arm": arm,
             "train_loss": loss + seed + i, "predicted": 2 * loss}
            for seed in (0, 1) for i in (0, 1) for k in (10, 100) for arm, loss in losses.items()]  # fmt: skip
    measured, foretold = plots.kernel_gains(pd.DataFrame(rows))
    for ax, factor in ((measured, 1), (foretold, 2)):
        lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 2}  # fmt: skip
        for arm in ("best", "uniform", "linear", "exponential"):
            np.testing.assert_allclose(lines[arm], [factor * (3.0 - losses[arm])] * 2)
