"""Losses on fixed batches are drawn as the table says, of the arms that the figures name."""

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
def steps() -> pd.DataFrame:
    """Two stages, two sizes, two seeds: losses (s - 1)^2 on the batch, s^2 held out, and drops by size."""
    rows = []
    for stage in ("step 5", "late"):
        for size in (16.0, 64.0):
            for seed in range(2):
                place = {"seed": seed, "stage": stage, "bs": size, "norm": "batch"}
                for step in np.linspace(0, 2, 5):
                    loss = {
                        "loss": (step - 1) ** 2 + seed,
                        "held": step**2,
                        "lowest": 0.0,
                        "highest": 9.0,
                    }
                    rows.append(place | loss | {"what": "curve", "step": step})
                for draw in range(2):
                    drop = {
                        "start": 3.0,
                        "least": 2.0 - draw,
                        "held_start": 3.0,
                        "held_least": 3 - size / 64,
                    }
                    rows.append(place | drop | {"what": "draw", "draw": draw})
    return pd.DataFrame(rows)


def test_a_step_is_drawn_on_its_batch_and_on_held_out_ones_a_stage_a_panel(steps):
    axes = plots.single_steps(steps, size=16.0)
    assert [ax.get_title() for ax in axes] == ["step 5, batch 16", "late, batch 16"]
    for ax in axes:
        lines = {line.get_label(): line.get_ydata().tolist() for line in ax.lines}
        assert lines == {
            "the step's own batch": [1, 0.25, 0, 0.25, 1],
            "held-out batches": [0, 0.25, 1, 2.25, 4],
        }


def test_drops_are_means_over_draws_by_size(steps):
    ax = plots.drops_by_batch(steps)
    drawn = {bar.get_label(): bar.lines[0].get_ydata().tolist() for bar in ax.containers}
    assert drawn["own batch, late"] == [1.5, 1.5]
    assert drawn["held out, late"] == [0.25, 1.0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["16", "64"]


def test_lines_between_two_descents_are_means_over_batches_without_the_controls():
    rows = [
        {"line": line, "norm": "batch", "steps": steps, "place": place, "trip": trip, "seed": 0,
         "loss": steps + place + trip, "held": -steps + place, "scatter": 0.0}
        for line in ("descents", "reordered units") for steps in (0, 9) for place in (0.0, 1.0) for trip in (0, 1)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.loc[table.line == "reordered units", ["loss", "held"]] = 99.0
    own, held = plots.basins(table)
    assert [line.get_ydata().tolist() for line in own.lines] == [[0.5, 1.5], [9.5, 10.5]]
    assert [line.get_ydata().tolist() for line in held.lines] == [[0, 1], [-9, -8]]
