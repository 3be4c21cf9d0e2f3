"""How far a long run is, and how far it goes before a deadline.

One progress bar is right everywhere: a widget in JupyterLab, text in a terminal, nothing in stored
outputs. Where a command's errors go to a file, a line now and then says what it is at. One rule says
when a run that goes piece by piece saves, and when it stops, so as to be done before the deadline.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from replicate.errors import BadParameter, Paused

DEADLINE = "REPLICATE_DEADLINE"  # environment variable: seconds since 1970
SAVE_SECONDS = 60  # what a run that is killed loses, about
SAVE_SHARE = 1 / 30  # of its time that a run spends on saving, at most
LINE_SECONDS = 30  # between two lines where nobody looks at a terminal


def agree_alone(late: bool) -> bool:
    """Whether a run stops: as its process finds, where no others make the same run."""
    return late


agree = agree_alone  # where several ranks make a run, what one of them finds


def progress(iterable: Iterable, description: str, total: int | None = None) -> Iterable:
    """`iterable` with a bar; without one where TQDM_DISABLE is set or nobody looks at a
    terminal. Within `tell_now_and_then` its lines say how far it is.
    """
    is_nothing = isinstance(iterable, tuple) and not iterable  # of which tqdm is told how much came
    if _tasks is not None and not is_nothing:
        return _count(iterable, description, total)
    # tqdm.auto stores an empty widget in a notebook even when TQDM_DISABLE is set, so the bar is
    # not made at all.
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        return iterable
    if sys.modules.get("ipykernel") is None and not sys.stderr.isatty():
        return iterable
    from tqdm.auto import tqdm

    return tqdm(iterable, desc=description, total=total, dynamic_ncols=True)


class Task(NamedTuple):
    """What is being done, and of how many pieces how many are done."""

    description: str
    pieces: list[int]  # those that are done, one number
    total: int | None

    def __str__(self) -> str:
        if self.total is None:
            return self.description
        return f"{self.description} {self.pieces[0]} of {self.total}"


_tasks: list[Task] | None = None  # within one another; None where nobody is told


@contextmanager
def tell_now_and_then(
    command: str,
    say: Callable[[str], object] | None = None,
    wait: Callable[[float], bool] | None = None,
) -> Iterator[None]:
    """Say at once, and then every LINE_SECONDS, what `task` and `progress` are at within the block.

    Nothing is said on a terminal, which has bars, where TQDM_DISABLE is set, or within another such
    block. say: takes a line, stderr if None; wait: takes seconds and gives whether the block has
    ended by then.
    """
    global _tasks
    disabled = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    if _tasks is not None or disabled or sys.stderr.isatty():
        yield
        return
    _tasks = []
    begun, over, say = time.monotonic(), threading.Event(), say or _print_line
    say(f"{command}: begun; a line every {LINE_SECONDS} s")

    def go_on() -> None:
        while not (wait or over.wait)(LINE_SECONDS):
            say(f"{command}: {_in_minutes(time.monotonic() - begun)}, at {_describe(_tasks)}")

    teller = threading.Thread(target=go_on, name="lines of progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
        _tasks = None


@contextmanager
def task(description: str, total: int | None = None) -> Iterator[Task]:
    """What is done within the block, as lines of progress call it."""
    current = Task(description, [0], total)
    tasks = [] if _tasks is None else _tasks
    tasks.append(current)
    try:
        yield current
    finally:
        tasks.remove(current)


def _count(iterable: Iterable, description: str, total: int | None) -> Iterator:
    """The items, counted where lines of progress are said."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    with task(description, total) as current:
        for item in iterable:
            yield item
            current.pieces[0] += 1


def _describe(tasks: list[Task]) -> str:
    return ", ".join(map(str, list(tasks))) or "its end"


def _in_minutes(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def deadline() -> float:
    """When runs have to have stopped, in seconds since 1970; infinite where REPLICATE_DEADLINE is
    not set.

    Raises BadParameter if the variable is no number.
    """
    text = os.environ.get(DEADLINE) or "inf"
    try:
        moment = float(text)
    except ValueError:
        moment = math.nan
    if math.isnan(moment):
        raise BadParameter(f"{DEADLINE} must be a number of seconds since 1970, got {text[:80]!r}")
    return moment


@contextmanager
def ends_by(moment: float) -> Iterator[None]:
    """Set REPLICATE_DEADLINE to `moment` within the block."""
    before = os.environ.get(DEADLINE)
    os.environ[DEADLINE] = str(moment)
    try:
        yield
    finally:
        os.environ.pop(DEADLINE)
        if before is not None:
            os.environ[DEADLINE] = before


def pieces(stops: Iterable, save: Callable[[], None]) -> Iterator:
    """Yield the items of `stops`; the caller does one piece of work per item.

    Between two items `save()` is called every SAVE_SECONDS. Where the longest piece so far and
    another save might not fit before the deadline, the work is saved and Paused is raised. Each
    call yields at least one item, so a run makes progress however small its budget is.
    """
    begun = saved = time.monotonic()
    longest = cost = 0.0
    for number, stop in enumerate(stops):
        now = time.monotonic()
        if number:
            longest = max(longest, now - begun)
            end = deadline()
            late = end < math.inf and agree(time.time() + longest + 2 * cost > end)
            if late or now - saved > max(SAVE_SECONDS, cost / SAVE_SHARE):
                save()
                saved = time.monotonic()
                cost = max(cost, saved - now)
            if late:
                raise Paused("the deadline is near; what is done is saved")
            now = time.monotonic()
        begun = now
        yield stop
