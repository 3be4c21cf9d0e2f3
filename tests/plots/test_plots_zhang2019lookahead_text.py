"""What is drawn of the runs on text is what their tables say, each arm at its best rate."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from faults import list_faults
from matplotlib import pyplot as plt

from replicate import plots

ARMS = ("sgd", "lookahead-sgd")
BEST = {"sgd": 10.0, "lookahead-sgd": 20.0, "sgd-ema": 20.0}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def table(curve, **metrics):
    """Two methods and a mean at two rates; a metric is 1 at the best rate and 3 at the other."""
    rows = []
    for arm, best in BEST.items():
        for seed in range(6):
            for lr in (10.0, 20.0):
                value = 1.0 if lr == best else 3.0
                row = {"arm": arm, "method": arm.replace("-ema", ""), "seed": seed, "lr": lr}
                row |= {name: value for name in ("valid_loss", *metrics)}
                row |= {name: value + i + (arm == "sgd") for i, name in enumerate(curve)}
                rows.append(row)
    return pd.DataFrame(rows)


def curves_of(ax):
    handles, labels = ax.get_legend_handles_labels()
    lines = {line.get_color(): line for line in ax.lines if len(line.get_xdata())}
    return {
        label: (
            lines[h.get_color()].get_xdata().tolist(),
            lines[h.get_color()].get_ydata().tolist(),
        )
        for h, label in zip(handles, labels, strict=True)
    }


def ends_of(ax):
    """Arm -> x of its point."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    [points] = [line for line in ax.lines if len(line.get_xdata()) == len(names)]
    return dict(zip(names, points.get_xdata().tolist(), strict=True))


def test_perplexities_are_exponentials_at_the_best_rates():
    drawn = table(["loss_50", "loss_100"], test_loss=0)
    drawn.loc[drawn.arm == "sgd-ema", "test_loss"] += 1
    left, right = plots.perplexities(drawn)
    assert curves_of(left) == {
        "sgd": ([50, 100], pytest.approx(np.exp([2.0, 3.0]))),
        "lookahead-sgd": ([50, 100], pytest.approx(np.exp([1.0, 2.0]))),
    }
    expected = {"sgd": np.e, "lookahead-sgd": np.e, "sgd-ema": np.e**2}
    assert ends_of(right) == pytest.approx(expected)
    assert left.get_yscale() == "log" and "perplexity" in left.get_ylabel()
    assert list_faults(left.figure) == []


def test_translations_have_their_losses_bleu_and_the_floor():
    floor = pd.DataFrame([{"arm": "source copied", "bleu": 0.5}])
    drawn = pd.concat([table(["loss_50", "loss_100"], bleu=0), floor], ignore_index=True)
    left, right = plots.translation_losses(drawn.assign(signature="tok:13a"))
    assert curves_of(left)["sgd"] == ([50, 100], [2.0, 3.0])
    assert set(curves_of(left)) == set(ARMS)
    assert ends_of(right) == dict.fromkeys(BEST, 1.0)
    [line] = [line for line in right.lines if line.get_linestyle() == ":"]
    assert list(line.get_xdata()) == [0.5, 0.5] and right.get_title() == "tok:13a"
    assert list_faults(left.figure) == []


@pytest.mark.parametrize("plot", [plots.perplexities, plots.translation_losses])
def test_nothing_is_said_to_be_nothing(plot):
    assert plot(pd.DataFrame()).texts[0].get_text() == "nothing recorded yet"


def test_a_rate_at_which_every_seed_was_lost_is_no_best():
    drawn = table(["loss_50", "loss_100"], test_loss=0)
    lost = (drawn.arm == "sgd") & (drawn.lr == 10.0)
    drawn.loc[lost, ["valid_loss", "test_loss", "loss_50", "loss_100"]] = np.nan
    left, right = plots.perplexities(drawn)
    assert ends_of(right)["sgd"] == pytest.approx(np.exp(3.0))
