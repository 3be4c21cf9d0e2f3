"""The shares of an average's gain that a side-trip has, as the page on data sets shows them."""

import pandas as pd
import pytest

from replicate.app import gain_ratios, registry, verdicts
from replicate.sources.protocol import Source


def ends(losses: dict) -> pd.DataFrame:
    """losses: (arm, kernel, k) -> its losses over seeds."""
    rows = [
        {"arm": arm, "kernel": kernel, "k": k, "train_loss": loss}
        for (arm, kernel, k), values in losses.items()
        for loss in values
    ]
    return pd.DataFrame(rows)


def test_a_share_is_a_ratio_of_mean_gains_over_the_raw_end_of_its_window():
    table = ends({
        ("raw", "", 10): (1.0, 2.0), ("average", "swa", 10): (0.5, 0.5), ("side-trip", "swa", 10): (0.6, 0.8),
        ("raw", "", 100): (3.0, 3.0), ("average", "swa", 100): (1.0, 1.0), ("side-trip", "swa", 100): (2.0, 2.0),
        ("average", "ema", 100): (1.0, 1.0),
    })  # fmt: skip
    shares = gain_ratios.compare_gains(table)
    assert shares.to_dict() == pytest.approx(
        {("swa", 10): (1.5 - 0.7) / (1.5 - 0.5), ("swa", 100): 0.5}
    )


def test_a_raw_end_without_window_is_that_of_every_window():
    nan = float("nan")
    table = ends({
        ("raw", nan, nan): (1.0, 2.0), ("average", "swa", 10): (0.5, 0.5), ("side-trip", "swa", 10): (0.6, 0.8),
        ("average", "ema", 30): (1.0, 1.0), ("side-trip", "ema", 30): (1.0, 1.0),
    })  # fmt: skip
    shares = gain_ratios.compare_gains(table)
    assert shares.to_dict() == pytest.approx({("swa", 10): 0.8, ("ema", 30): 1.0})


def test_what_was_measured_is_what_the_verdict_says():
    source = Source(gain_ratios.SOURCE_OF_SPECTRA)
    recorded = verdicts.read_recorded(source, "cpu").query("role == 'primary'").set_index("claim")
    table = registry.read_recorded_tables(source, "cpu")(source["figure_5"])
    measured = gain_ratios.compare_gains(table[table.dataset == "digits"])
    for claim, kernel in {"TRAJ-21.loss": "swa", "TRAJ-22.loss": "two-point"}.items():
        assert measured[kernel, 1000] == pytest.approx(recorded.value[claim], rel=1e-3)


def test_the_page_has_a_line_for_every_kernel_and_window():
    page = gain_ratios.render()
    assert "| swa | 1000 |" in page and "| two-point | 10 |" in page and "(" in page
