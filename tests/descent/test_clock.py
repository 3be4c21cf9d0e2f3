"""Clocks give a number a repeat for each part; how large is for a benchmark to say."""

import numpy as np
import pytest

from replicate import descent


def test_every_part_has_a_time_for_every_repeat():
    one = descent.regression(200, 3, 0)
    found = descent.regression_seconds(one.x, one.y, 0.02, 2)
    jobs = ["loss", "gradient", "step", "newton", "newton as printed"]
    assert list(found) == jobs + [f"{job} again" for job in jobs]
    net = descent.Net((3, 1))
    parts = descent.net_seconds(
        descent.rows_loss(net), descent.rows(20, 3, 0), descent.initial_weights(net, 0), 3
    )
    assert list(parts) == ["loss", "gradient"] and all(len(part) == 3 for part in parts.values())
    assert all(len(part) == 2 and np.all(part > 0) for part in found.values())


def test_solvers_beside_are_timed_in_turn_with_the_others():
    one, called = descent.regression(20, 2, 0), []
    found = descent.regression_seconds(
        one.x,
        one.y,
        0.02,
        3,
        beside={"a": lambda: called.append("a"), "b": lambda: called.append("b")},
    )
    assert called == ["a", "b"] * 4  # one round does not count
    assert len(found["a"]) == len(found["b"]) == 3 and len(found) == 12


def test_only_the_parts_that_are_wanted_are_timed():
    one = descent.regression(20, 2, 0)
    found = descent.regression_seconds(one.x, one.y, 0.02, 2, only=("loss", "step"))
    assert list(found) == ["loss", "step", "loss again", "step again"]


def test_the_printed_update_halves_the_precision():
    assert descent.bits_of_printed_update() == (64, 32)


def test_no_repeats_are_refused():
    one = descent.regression(9, 1, 0)
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        descent.regression_seconds(one.x, one.y, 0.02, 0)
