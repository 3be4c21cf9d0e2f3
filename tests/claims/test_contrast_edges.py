"""What sums over numbers do not reach of a contrast: what is lost, never arrives, or lies at an edge."""

import math

import numpy as np
import pandas as pd
import pytest

from replicate.claims import contrasts
from replicate.claims.contrasts import CONTRASTS

WINDOWS = (1, 10, 100)


def series(*numbers: float) -> pd.Series:
    return pd.Series(
        numbers,
        index=pd.MultiIndex.from_product([range(len(numbers)), [0]], names=["seed", "branch"]),
    )


def test_who_never_arrives_is_given_its_whole_run():
    a, b = series(4.0, math.nan, 2.0, math.nan), series(2.0, 8.0, math.nan, math.nan)
    result = CONTRASTS["log2 ratio of times"](
        a, b, ends=[series(16, 16, 16, 16), series(32, 32, 32, 32)]
    )
    assert result.tolist()[:3] == [1.0, 1.0, -4.0] and math.isnan(result.iloc[3])


@pytest.mark.parametrize("better, gain", [("lower", -1.0), ("higher", -2.0)])
def test_the_better_of_two_depends_on_what_is_better(better, gain):
    result = CONTRASTS["gain over the better"](series(3.0), series(2.0), series(5.0), better=better)
    assert result.tolist() == [gain]


def test_a_rival_that_was_lost_is_not_passed_over():
    result = CONTRASTS["gain over the better"](
        series(3.0), series(2.0), series(math.nan), better="lower"
    )
    assert result.isna().all()


@pytest.mark.parametrize("scale, base", [("log2", 2), ("log10", 10)])
def test_a_power_law_has_its_exponent_as_slope(scale, base):
    a = pd.DataFrame({k: series(3.0 * k**0.7, 5.0 * k**0.7) for k in WINDOWS})
    b = pd.DataFrame({k: series(1.0, 1.0) for k in WINDOWS})
    result = CONTRASTS["slope"](a, b, scale=scale)
    assert result.tolist() == pytest.approx([0.7 * math.log10(base)] * 2)


def test_a_lost_point_of_a_slope_loses_the_unit():
    a = pd.DataFrame({k: series(3.0 * k, math.nan if k == 10 else 5.0 * k) for k in WINDOWS})
    result = CONTRASTS["slope"](a, a.fillna(1.0), scale="log2")
    assert result.notna().tolist() == [True, False]


def with_a_hole() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two units along the windows, the second of which has no number at one of them; and twice the
    same without.
    """
    rising = pd.DataFrame({k: series(3.0 * k, 5.0 * k) for k in WINDOWS})
    return rising.mask((rising.columns == 10) & (rising > 45)), rising * 2


@pytest.mark.parametrize("name", ["least difference", "mean difference", "mean ratio"])
def test_a_lost_point_loses_the_unit(name):
    if name not in CONTRASTS:
        pytest.skip(f"no contrast is called {name}")
    a, b = with_a_hole()
    assert CONTRASTS[name](a, b).notna().tolist() == [True, False]
    assert CONTRASTS[name](b, a).notna().tolist() == [True, False]


def test_who_never_gets_there_is_not_below():
    a, b = with_a_hole()
    assert CONTRASTS["share below"](a, b).tolist() == pytest.approx([1, 2 / 3])
    assert CONTRASTS["share below"](b, a).notna().tolist() == [True, False]


def test_who_stands_still_lags_by_what_the_other_moves():
    lag = CONTRASTS["least lag where the second moves"]
    a = pd.DataFrame({"one": [0, 0, 0], "two": [2.9, 0, 0], "three": [0, 0.4, 0]}, dtype=float)
    b = pd.DataFrame({"one": [1, 2, 0], "two": [3, 3, 0], "three": [0.5, 0.4, 0.9]})
    assert lag(a, b)[:2].tolist() == pytest.approx([0.1, 2]) and np.isnan(lag(a, b)[2])
    a.loc[2, "two"], b.loc[2, ["one", "two"]] = 0.5, [3, 1]
    assert lag(a, b)[2] == 0.5  # where the second moves by 1 it moves
    a.loc[0, "three"] = np.nan
    assert np.isnan(lag(a, b)[0])


def test_the_least_of_rivals_is_over_units_that_all_of_them_have():
    result = CONTRASTS["log10 ratio to the least"](
        series(10.0, 10.0, 10.0), series(1.0, math.nan), series(2.0, 2.0)
    )
    assert len(result) == 2 and result.iloc[0] == 1 and math.isnan(result.iloc[1])


@pytest.mark.filterwarnings("error")
def test_there_is_no_distance_from_what_is_not_above_0():
    result = CONTRASTS["log10 distance"](series(100.0, -1.0, 0.0), series(1.0, 1.0, 1.0))
    assert result.iloc[0] == 2 and not np.isfinite(result.iloc[1:]).any()


def test_what_a_contrast_takes_is_read_from_its_function():
    rivals = {name for name in CONTRASTS if contrasts.takes_rivals(name)}
    assert rivals == {"closest", "log10 ratio to the least"}
    options = [contrasts.options_of(name) for name in ("closest", "gain over the better")]
    assert options == [set(), {"better"}]
    assert contrasts.choices_of("slope", "scale") == ("log2", "log10")
