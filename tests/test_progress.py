"""A long run saves now and then, stops before its deadline when it has saved, and gets on however
small its budget.
"""

import os

import pytest

from replicate import progress
from replicate.errors import BadParameter, Busy, Paused


class Clock:
    """A clock that only work moves on."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    monotonic = time


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.delenv(progress.DEADLINE, raising=False)
    return made


def worked(clock, costs, budget=None, saving=0.0):
    """(pieces done, when each was saved, whether it was paused) of pieces that take so many
    seconds.
    """
    done, saves, paused = [], [], False

    def save():
        clock.now += saving
        saves.append(len(done))

    with progress.ends_by(float("inf") if budget is None else clock.now + budget):
        try:
            for piece, cost in progress.pieces(list(enumerate(costs)), save):
                clock.now += cost
                done.append(piece)
        except Paused:
            paused = True
    return done, saves, paused


def test_without_a_deadline_every_piece_is_done_and_saved_once_a_minute(clock):
    assert worked(clock, [25] * 8) == (list(range(8)), [3, 6], False)


def test_saving_takes_a_thirtieth_of_the_time_at_most(clock):
    _, saves, _ = worked(clock, [10] * 200, saving=6.0)
    assert saves[0] == 7 and min(b - a for a, b in zip(saves, saves[1:], strict=False)) == 19


@pytest.mark.parametrize("budget", [95, 100, 1000])
def test_a_run_has_saved_and_stopped_before_its_deadline(clock, budget):
    begun = clock.now
    done, saves, paused = worked(clock, [10] * 1000, budget, saving=3.0)
    assert paused and saves[-1] == len(done) and clock.now - begun <= budget
    assert clock.now - begun > budget - 2 * 10 - 3 * 3


@pytest.mark.parametrize("budget", [-5, 0, 9])
def test_a_budget_too_small_for_anything_makes_one_piece_all_the_same(clock, budget):
    assert worked(clock, [10] * 5, budget) == ([0], [1], True)


def test_what_saving_costs_is_known_after_the_first_time(clock):
    begun = clock.now
    _, saves, paused = worked(clock, [10] * 5, budget=30, saving=3.0)
    assert paused and saves == [3] and clock.now - begun == 30 + 3


def test_after_the_last_piece_nothing_is_paused(clock):
    assert worked(clock, [10] * 3, budget=31) == ([0, 1, 2], [], False)


def test_a_paused_run_is_to_be_called_again():
    assert issubclass(Paused, Busy) and Paused("x").exit_code == 75


@pytest.mark.parametrize("before", [None, "7.0"])
def test_a_deadline_holds_inside_and_is_as_it_was_afterwards(monkeypatch, before):
    monkeypatch.delenv(progress.DEADLINE, raising=False)
    if before:
        monkeypatch.setenv(progress.DEADLINE, before)
    with progress.ends_by(9.0):
        assert progress.deadline() == 9.0 and os.environ[progress.DEADLINE] == "9.0"
    assert os.environ.get(progress.DEADLINE) == before and progress.deadline() == float(
        before or "inf"
    )


@pytest.mark.parametrize("text", ["abc", "nan", "12:00"])
def test_a_deadline_that_is_no_number_is_one_line(monkeypatch, text):
    monkeypatch.setenv(progress.DEADLINE, text)
    with pytest.raises(
        BadParameter,
        match=f"^REPLICATE_DEADLINE must be a number of seconds since 1970, got '{text}'$",
    ):
        progress.deadline()
