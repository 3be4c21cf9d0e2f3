"""What is read off curves along a step and off lines between descents: curves whose minimum, turn
and fit are known, and tables small enough for sums by hand.
"""

import numpy as np
import pandas as pd
import pytest

from replicate.errors import Diverged
from replicate.sources.sandler2023trajectories import _basins, _single_steps, _step_curves

# One curve.


@pytest.mark.parametrize("guess", [1e-6, 0.01, 0.3, 0.7, 2.5, 1e7])
def test_the_best_step_of_a_parabola_is_exact_from_any_guess(guess):
    step = _step_curves.find_minimiser(lambda e: 2.0 + (e - 0.7) ** 2, 2.49, guess)
    assert step == pytest.approx(0.7, rel=1e-6)


def test_the_best_step_is_the_first_minimum_of_several():
    """cos turns at pi and again at 3 pi, where it is as low."""
    assert _step_curves.find_minimiser(np.cos, 1.0, 0.05) == pytest.approx(np.pi, rel=0.15)


def test_a_step_is_taken_although_the_next_one_has_no_number():
    step = _step_curves.find_minimiser(lambda e: 1 - e if e < 3 else np.nan, 1.0, 1.0)
    assert step == 2.0


def test_a_loss_that_no_step_lowers_is_refused():
    with pytest.raises(Diverged, match="no step along the gradient lowers the loss, 1"):
        _step_curves.find_minimiser(lambda e: 1.0 + e, 1.0, 1.0)


def test_step_sizes_are_halvings_then_even_ones_then_far_ones():
    steps = _step_curves.place_steps(3.0, 4, 2)
    assert steps.tolist() == [0, 0.375, 0.75, 1.5, 3, 4.5, 6, 7.5, 9, 12, 18, 24]
    assert steps[_step_curves.place_even(4, 2)].tolist() == [0, 1.5, 3, 4.5, 6]


def test_the_fit_is_the_share_of_variance_that_a_polynomial_leaves_out():
    e = np.linspace(0, 2, 13)
    cubic = e**3
    powers = np.vander(e, 3)
    rest = cubic - powers @ np.linalg.lstsq(powers, cubic, rcond=None)[0]
    expected = 1 - rest.var() / cubic.var()
    assert expected < 0.998
    assert _step_curves.fit_polynomial(e, cubic, 2) == pytest.approx(expected, rel=1e-9)
    assert _step_curves.fit_polynomial(e, cubic, 3) == pytest.approx(1)
    for values in (np.where(e > 1, np.inf, e), np.ones(13)):
        assert np.isnan(_step_curves.fit_polynomial(e, values, 2))


def test_convex_is_a_share_of_second_differences():
    assert _step_curves.count_convex(np.array([0.0, 0, 1, 3, 4, 4])) == 0.5  # of +1, +1, -1, -1
    assert _step_curves.count_convex(np.linspace(0, 1, 9) ** 2) == 1
    assert _step_curves.count_convex(np.zeros(5)) == 0


def test_the_lowest_point_lies_between_step_sizes_or_at_an_end():
    e = np.array([0.0, 0.3, 0.5, 1.1, 1.6])
    assert _step_curves.find_lowest(e, 1 + (e - 0.8) ** 2) == pytest.approx((0.8, 1.0))
    assert _step_curves.find_lowest(e, e) == (0, 0)
    assert _step_curves.find_lowest(e, -e) == (1.6, -1.6)
    assert _step_curves.find_lowest(e, np.array([3.0, 2, 1, np.inf, 2])) == (0.5, 1)


@pytest.mark.parametrize("turn", [1e-4, 0.02, 0.37, 2.0, 7.9])
def test_the_largest_harmless_step_of_a_parabola_is_exact(turn):
    """Between the step sizes and below the smallest."""
    e = _step_curves.place_steps(1.0, 12, 4)
    y = 5 + e * (e - turn)
    assert _step_curves.find_critical(e, y) == pytest.approx(turn, rel=1e-6)


def test_the_largest_harmless_step_of_other_curves():
    e = np.array([0.0, 1, 2, 3])
    assert _step_curves.find_critical(e, -e) == 3  # never turns within the sizes
    assert _step_curves.find_critical(e, e) == 0  # harms from the first on, no less the smaller
    assert _step_curves.find_critical(e, np.array([0, -1, np.inf, np.inf])) == 1
    assert 2 < _step_curves.find_critical(e, np.array([0.0, 1, -1, 2])) < 3  # the last return


# One row a seed and cell.

NUMBERS = ("minimiser start least critical rise convex cooled held_start held_least held_critical "
           "held_convex fit held_fit").split()  # fmt: skip
CASE = {"seed": 4, "norm": "batch"}


def drawn(stage: str, bs: int, draw: int, **changes) -> dict:
    """A draw whose columns all differ, from one draw to the next as well."""
    place = 100 * (stage == "late") + 10 * np.log2(bs) + draw
    numbers = {name: 1 + i + place / 997 for i, name in enumerate(NUMBERS)}
    return {"what": "draw", **CASE, "stage": stage, "bs": bs, "draw": draw, **numbers, **changes}


def noise(stage: str, **moments) -> dict:
    given = {"batch": 8, "squared_mean": 2.0, "trace": 5.0, "along_mean": 1.0, "along_batch": 3.0}
    return {"what": "noise", **CASE, "stage": stage, **given, **moments}


def summary(rows: list[dict]) -> pd.DataFrame:
    return _single_steps.summarise(pd.DataFrame(rows))


def test_a_cell_is_means_medians_and_percentiles_of_its_draws():
    drops = [{"start": 9.0, "least": least, "held_start": 4.0, "held_least": held, "fit": fit}
             for least, held, fit in ((1, 3.9, 0.9), (2, 3.5, 0.2), (6, 3.8, 0.8))]  # fmt: skip
    rows = [drawn("late", 8, i, **drop) for i, drop in enumerate(drops)]
    table = summary([*rows, noise("late")]).set_index(["arm", "bs"])
    cell = table.loc[("mini-batch", 8)]
    for name in set(NUMBERS) - {"fit", "held_fit"}:
        assert cell[name] == pytest.approx(np.mean([row[name] for row in rows]))
    assert cell["drop"] == pytest.approx(9 - 3) and cell.held_drop == pytest.approx(4 - 11.2 / 3)
    assert cell.fit == 0.8 and cell.held_fit == rows[1]["held_fit"]
    assert cell.least_90 == pytest.approx(2 + 0.8 * 4)  # nine tenths of the way over two gaps
    assert cell.held_least_90 == pytest.approx(3.8 + 0.8 * 0.1)
    assert table.loc[("first half", 8)]["drop"] == pytest.approx(9 - 3.5)  # of draws 0 and 2
    assert table.loc[("second half", 8)]["drop"] == 7
    full = table[table.index.get_level_values("arm") == "full-gradient"]
    assert full["drop"].tolist() == [cell["drop"]] and full.index.get_level_values("bs").isna()


def test_a_drop_of_nothing_counts_as_the_floor():
    cell = summary([drawn("late", 8, 0, held_start=1.0, held_least=1.0), noise("late")]).iloc[0]
    assert cell.held_drop == 1e-5


def test_predictions_are_of_the_cells_stage_and_size():
    """S = 8 * 5 / 2 = 20 at one stage and 8 * 3 / 2 = 12 at the other; E g.H g = 1 + 2 * 8 / B."""
    rows = [drawn(stage, bs, 0, start=9.0, least=1.0, held_start=4.0, held_least=2.0)
            for stage in ("step 5", "late") for bs in (8, 32)]  # fmt: skip
    table = summary([*rows, noise("step 5"), noise("late", trace=3.0, squared_mean=1.5)])
    table = table[table.arm == "mini-batch"].set_index(["stage", "bs"])
    assert table.noise_scale.to_dict() == {
        ("late", 8): 16, ("late", 32): 16, ("step 5", 8): 20, ("step 5", 32): 20,
    }  # fmt: skip
    assert table.noise_scale_elsewhere.tolist() == [20, 20, 16, 16]
    assert table.predicted_critical[("step 5", 8)] == pytest.approx(2 * 2 / 3)
    assert table.predicted_critical[("late", 32)] == pytest.approx(2 * 1.5 / 1.5)
    # (1 + S/B)^2 = 8 / 2
    assert table.drop_scale[("late", 8)] == pytest.approx(8)
    assert table.drop_scale[("late", 32)] == pytest.approx(32)


def test_noise_that_never_lets_the_loss_turn_predicts_nothing():
    cell = summary([drawn("late", 8, 0), noise("late", along_mean=-1.0, along_batch=-1.0)]).iloc[0]
    assert np.isnan(cell.predicted_critical) and cell.noise_scale == 20
    drowned = summary([drawn("late", 8, 0), noise("late", squared_mean=-1.0)]).iloc[0]
    assert np.isnan(drowned.noise_scale) and drowned.predicted_critical == 0


@pytest.mark.parametrize(
    "rises, crossing",
    [
        ((3.0, 1.0, -1.0), 8 * 2**0.5),  # half way from 8 to 16, in logarithms
        ((3.0, -1.0, -2.0), 4 * 2**0.75),
        ((1.0, -1.0, 1.0), 4 * 2**0.5),
        ((3.0, 2.0, 1.0), np.nan),
        ((-1.0, -2.0, -3.0), np.nan),
    ],
)
def test_the_crossover_is_where_the_rise_ends(rises, crossing):
    rows = [drawn("late", bs, 0, rise=rise) for bs, rise in zip((4, 8, 16), rises, strict=True)]
    table = summary([*rows[::-1], noise("late")])
    (row,) = table[table.arm == "all sizes"].to_dict("records")
    assert row["crossover"] == pytest.approx(crossing, nan_ok=True) and row["noise_scale"] == 20


def test_usual_sizes_count_when_all_are_there():
    sizes, held = (128, 256, 512, 1024, 2048, 4096), (9.0, 0.1, 0.2, 0.4, 0.3, 0.1)
    rows = [drawn("late", bs, 0, start=9.0, least=1.0, held_start=9.0, held_least=9 - drop)
            for bs, drop in zip(sizes, held, strict=True)]  # fmt: skip
    table = summary([*rows, noise("late")])
    assert table[table.arm == "usual sizes"].largest_ratio.tolist() == pytest.approx([0.4 / 8])
    fewer = summary([*rows[:-1], noise("late")])
    assert "usual sizes" not in set(fewer.arm)


def test_shares_of_cells_are_over_stages_and_sizes():
    alike = {"start": 9.0, "least": 1.0, "held_start": 9.0, "held_least": 9 - 0.9, "rise": 1.0}
    unlike = alike | {"held_least": 9 - 0.7}
    rows = [
        drawn("step 5", 8, 0, **unlike, fit=0.96, held_fit=0.94),
        drawn("step 5", 32, 0, **unlike | {"rise": -1.0}, fit=0.94, held_fit=0.94),
        drawn("late", 8, 0, **alike, fit=0.96, held_fit=0.96),
        drawn("late", 32, 0, **unlike, fit=0.96, held_fit=0.94),
    ]
    estimated = [row | {"norm": "re-estimated", "fit": 0.1} for row in rows]
    table = summary([*rows, *estimated, noise("step 5"), noise("late")])
    (row,) = table[table.arm == "all cells"].to_dict("records")
    shares = (row["share_parabolic"], row["share_held_parabolic"], row["share_unlike"])
    assert shares == (0.75, 0.25, 0.5) and row["norm"] == "batch"


@pytest.mark.parametrize("held, name", [(1.79, "late"), (1.81, "too early")])
def test_a_stage_higher_than_the_papers_is_called_too_early(held, name):
    """The paper's run stands at 1.8 nats where a trained one has 1: 4 of 9 parts above it."""
    at = {"held_start": held, "cooled": 1.0}
    rows = [drawn("step 5", 8, 0, held_start=4.0, cooled=1.0), drawn("late", 8, 0, **at)]
    table = summary([*rows, noise("step 5"), noise("late")])
    cells = table[table.arm == "mini-batch"].set_index("stage")
    assert cells.above_cooled.to_dict() == {"step 5": 0.75, name: round(1 - 1 / held, 2)}


# One row a seed of lines.


def line(name: str, trip: int, steps: int, loss, held, **changes) -> list[dict]:
    """Losses at equal places from 0 to 1."""
    places = np.linspace(0, 1, len(loss)) if len(loss) > 1 else [0.0]
    fields = {**CASE, "line": name, "trip": trip, "steps": steps, "scatter": 0.1, **changes}
    return [fields | {"place": a, "loss": y, "held": h}
            for a, y, h in zip(places, loss, held, strict=True)]  # fmt: skip


def trip(number: int, lift: float = 0.0) -> list[dict]:
    """Ends at 2 and 4, then 1 and 2 after three steps, then 0.2 and 0.4 after nine; heights above
    the chord 0.5, 0.1 and `lift`.
    """
    rows = line("descents", number, 0, (2, 3.5, 4), (5, 5, 5))
    rows += line("descents", number, 3, (1, 1.6, 2), (6, 6.5, 7))
    rows += line("descents", number, 9, (0.2, 0.3 + lift, 0.4), (9, 8.5, 10))
    rows += line("reordered units", number, 9, (0.2, 5.3, 0.4), (9, 20.5, 10))
    rows += line("other batches", number, 9, (9,), (4.5,))
    return rows + line("start", number, 9, (9,), (7.5,))


@pytest.fixture
def ends() -> pd.DataFrame:
    """Two trips; the second's largest height is after nine steps."""
    table = _basins.summarise(
        pd.DataFrame([*trip(0), *trip(1, 0.9)]).sample(frac=1, random_state=1)
    )
    return table.set_index("arm")


def test_ratios_are_of_means_over_both_ends(ends):
    own, held = ends.loc["training batch"], ends.loc["held out"]
    assert own.after_three == pytest.approx(1.5 / 3) and own.after_nine == pytest.approx(0.1)
    assert held.after_three == pytest.approx(6.5 / 5) and held.after_nine == pytest.approx(9.5 / 5)


def test_a_barrier_is_a_trips_largest_height_above_the_chord(ends):
    assert ends.barrier["training batch"] == pytest.approx((0.5 + 0.9) / 2 / 3)
    assert ends.barrier["held out"] == pytest.approx(0)
    assert ends.barrier["training batch, reordered units"] == pytest.approx(5 / 3)
    assert ends.barrier["held out, reordered units"] == pytest.approx(11 / 5)


def test_the_rise_is_from_the_late_end_over_what_training_gained(ends):
    assert ends.rise["held out"] == pytest.approx(9 - 5)
    assert ends.rise_over_fall["held out"] == pytest.approx(4 / (7.5 - 5))
    assert ends.rise["other batches"] == pytest.approx(-0.5)
    assert ends.rise_over_fall["other batches"] == pytest.approx(-0.2)


def test_profiles_are_apart_without_their_means(ends):
    """Before: 2, 3.5, 4 less their mean 19/6, and nothing held out, over a scatter of 0.1."""
    before = np.mean([7 / 6, 2 / 6, 5 / 6]) / 0.1
    after = np.mean(np.abs(np.array([1, 1.6, 2]) - 4.6 / 3 - np.array([-0.5, 0, 0.5]))) / 0.1
    assert ends.profile_distance["before the first step"] == pytest.approx(before)
    assert ends.profile_distance["after three steps"] == pytest.approx(after)
