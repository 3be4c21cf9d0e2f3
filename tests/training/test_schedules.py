"""Schedules are functions of the step."""

import math

import pytest

from replicate.training.schedules import constant, cosine, warmup


def test_constant_is_constant():
    assert {constant(0.3)(step) for step in (0, 1, 10**6)} == {0.3}


def test_warmup_rises_in_equal_steps_to_the_base_rate():
    rate = warmup(constant(0.4), 4)
    assert [rate(step) for step in range(6)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rel=1e-15
    )
    assert warmup(constant(0.4), 0)(0) == 0.4


def test_cosine_starts_at_its_peak_is_half_at_half_and_stays_at_zero():
    rate = cosine(0.2, 100)
    assert rate(0) == 0.2
    assert rate(50) == pytest.approx(0.1, rel=1e-12)
    assert rate(25) == pytest.approx(0.1 * (1 + math.sqrt(0.5)), rel=1e-12)
    assert rate(100) == rate(150) == 0


@pytest.mark.parametrize("lr", [0, -0.1, math.nan, math.inf])
def test_a_rate_that_is_not_positive_and_finite_is_refused(lr):
    for schedule in (constant, lambda lr: cosine(lr, 10)):
        with pytest.raises(ValueError, match="lr must be positive and finite"):
            schedule(lr)


def test_lengths_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        cosine(0.1, 0)
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        warmup(constant(0.1), -1)
