"""What validation losses decide, against loops over all losses so far."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.training import Halve, NonMonotone

LOSSES = st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]), max_size=25)


@given(LOSSES, st.integers(0, 6))
def test_the_mean_begins_at_the_first_check_that_is_worse_than_the_best_but_n(losses, n):
    trigger = NonMonotone(n)
    fired = [trigger.fires(loss) for loss in losses]
    begin = next(
        (t for t, v in enumerate(losses) if t > n and v > min(losses[: t - n])), len(losses)
    )
    assert fired == [t >= begin for t in range(len(losses))]


@given(LOSSES, st.integers(1, 4))
def test_the_rate_falls_after_so_many_checks_without_a_best(losses, patience):
    halve = Halve(patience, 0.5)
    scales = [halve.rescale(loss) for loss in losses]
    best, waited, expected, scale = float("inf"), 0, [], 1.0
    for loss in losses:
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
            if waited == patience:
                scale, waited = scale / 2, 0
        expected.append(scale)
    assert scales == expected


def test_an_equal_loss_is_no_best():
    halve = Halve(2, 0.1)
    assert [halve.rescale(1.0) for _ in range(5)] == [1.0, 1.0, 0.1, 0.1, pytest.approx(0.01)]
