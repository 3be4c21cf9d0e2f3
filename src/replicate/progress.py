"""How far a long run is, and how far it goes before a deadline.

One progress bar is right everywhere: a widget in JupyterLab, text in a terminal, nothing in stored
outputs. One rule says when a run that goes piece by piece saves, and when it stops, so as to be
done before the deadline.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from replicate.errors import BadParameter, Paused

DEADLINE = "REPLICATE_DEADLINE"  # environment variable: seconds since 1970
SAVE_SECONDS = 60  # what a run that is killed loses, about
SAVE_SHARE = 1 / 30  # of its time that a run spends on saving, at most


def agree_alone(late: bool) -> bool:
    """Whether a run stops: as its process finds, where no others make the same run."""
    return late


agree = agree_alone  # where several ranks make a run, what one of them finds


def progress(iterable: Iterable, description: str, total: int | None = None) -> Iterable:
    """`iterable` with a bar; without one where TQDM_DISABLE is set or nobody looks at a
    terminal.
    """
    # tqdm.auto stores an empty widget in a notebook even when TQDM_DISABLE is set, so the bar is
    # not made at all.
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        return iterable
    if sys.modules.get("ipykernel") is None and not sys.stderr.isatty():
        return iterable
    from tqdm.auto import tqdm

    return tqdm(iterable, desc=description, total=total, dynamic_ncols=True)


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
