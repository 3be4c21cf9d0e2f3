"""The filter view is judged on numbers that arithmetic by hand gives, and its statements are those
of its rows.
"""

import numpy as np
import pytest

from replicate.app import registry
from replicate.sources.across import _methods
from replicate.sources.across.filters import AMPLIFIES, FED_BACK, MEANS_BESIDE, WITH_MOMENTUM
from replicate.sources.across.settings import Settings
from replicate.sources.protocol import Source

SETTINGS = Settings()


@pytest.fixture(scope="module")
def table():
    return Source("across")["filters"](SETTINGS)


@pytest.fixture(scope="module")
def judged(table):
    return table[table.what == "claim"].set_index(["claim", "case"])


def test_every_claim_has_its_rows_and_every_row_a_claim(judged):
    claims = {claim.id for claim in registry.claims_of(Source("across"))}
    assert set(judged.index.get_level_values("claim")) == claims
    assert {claim.origin for claim in registry.claims_of(Source("across"))} == {"ours"}
    assert not judged.index.duplicated().any() and judged[["value", "control"]].notna().all(
        axis=None
    )


def test_every_method_is_drawn_and_belongs_to_a_side(table):
    names = set(_methods.list_methods(SETTINGS))
    for what in ("impulse", "response", "noise", "pace", "lag", "edge"):
        assert set(table[table.what == what].arm) == names
    assert set(FED_BACK) | set(MEANS_BESIDE) | {"SGD"} == names
    assert not set(WITH_MOMENTUM) & set(AMPLIFIES)


BY_HAND = {  # beta = 0.9, s = 1/2, k = 5, alpha = 1/2, windows of 10
    ("ACROSS-9", "momentum"): 2 * 1.9 * 10 / 2,
    ("ACROSS-9", "Nesterov"): 2 * 1.9 / 2.8 * 10 / 2,
    ("ACROSS-10", "extrapolation, first order"): 1.0,
    ("ACROSS-10", "Lookahead"): (1 + 3 ** (1 / 5)) * 0.5 / 2,
    ("ACROSS-10", "average, swa"): 1.0,
    ("ACROSS-11", "momentum"): 0.1 / 1.9,
    ("ACROSS-11", "Nesterov"): (1 + 0.9 / 1.9) / 10,
    ("ACROSS-11", "average, swa"): 0.0,
    ("ACROSS-11", "running mean"): 0.1 / 1.9,
    ("ACROSS-12", "Lookahead"): (1 - 0.1) / 0.5,
}


@pytest.mark.parametrize("row", BY_HAND, ids=" ".join)
def test_a_number_is_that_of_arithmetic_by_hand(row, judged):
    assert judged.value[row] == pytest.approx(BY_HAND[row], abs=1e-9)


@pytest.mark.parametrize("order, name", [(2, "second"), (3, "third")])
def test_edge_and_highest_frequency_of_extrapolation_by_its_polynomial(order, name, judged):
    """At z = -1 the step's polynomial has a root first: 2 = x |sum_j a_j (-1)^j|."""
    s = SETTINGS.s
    newest = {2: s + s**2 / 2 + s / 2, 3: 11 * s / 6 + s**2 + s**3 / 6}[order]
    # Second order by BDF: w' = (3 d_0 - d_1) / 2, w'' = d_0 - d_1; third: those of the source.
    tail = {
        2: [-(s / 2 + s**2 / 2)],
        3: [-(7 * s / 6 + 3 * s**2 / 2 + s**3 / 3), s / 3 + s**2 / 2 + s**3 / 6],
    }
    a = [1 + newest, *tail[order]]
    swung = abs(sum(each * (-1) ** j for j, each in enumerate(a)))
    assert judged.value["ACROSS-12", f"extrapolation, {name} order"] == pytest.approx(
        swung / (1 + s)
    )
    assert judged.value["ACROSS-10", f"extrapolation, {name} order"] == pytest.approx(
        2 / swung * (1 + s) / 2
    )


def test_what_a_reset_adds_is_the_spread_of_geometric_sums(judged):
    """A step of phase p moves alpha (1 + beta + ... ) over what is left of its cycle."""
    moved = np.array([(1 - 0.9**n) / 0.1 for n in range(1, 6)])
    spread = (moved**2).mean() / moved.mean() ** 2
    assert judged.control["ACROSS-13", ""] == pytest.approx(spread, rel=1e-3)
    assert judged.value["ACROSS-8", "Lookahead, momentum, reset"] == pytest.approx(spread, rel=1e-3)


def test_a_mean_that_is_long_leaves_a_share_of_the_noise(judged):
    """delta / (delta + x (1 - delta)) at delta = x / 10: the variance of a mean of a first-order path."""
    x, delta = 1e-4, 1e-5
    gamma = 1 - x
    share = delta / (2 - delta) * (1 + (1 - delta) * gamma) / (1 - (1 - delta) * gamma)
    assert judged.control["ACROSS-8", "momentum"] == pytest.approx(share, rel=1e-6)


def test_momentum_and_its_mean_differ_where_gradients_depend_on_the_weights(judged):
    x, delta, beta = 0.5, 0.1, 0.9
    gamma = 1 - x
    mean = delta / (2 - delta) * (1 + beta * gamma) / (1 - beta * gamma) / (x * (2 - x))
    y = delta * x
    ball = delta**2 * (1 + beta) / ((1 - beta) * y * (2 * (1 + beta) - y))
    assert judged.control["ACROSS-2", ""] == pytest.approx(abs(mean / ball - 1), rel=1e-9)


def test_other_numbers_are_taken(judged):
    other = Source("across")["filters"](Settings(beta=0.5, alpha=0.8, k=4, window=6))
    rows = other[other.what == "claim"].set_index(["claim", "case"])
    assert rows.value["ACROSS-9", "momentum"] == pytest.approx(2 * 1.5 * 2 / 2)
    assert rows.value["ACROSS-7", ""] < 1e-12 and rows.control["ACROSS-7", ""] == pytest.approx(0.2)
    assert (rows.loc[[f"ACROSS-{i}" for i in range(1, 8)]].value < 1e-12).all()
