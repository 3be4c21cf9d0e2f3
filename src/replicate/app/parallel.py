"""What the command line does where torchrun has started it as several processes."""

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from replicate.errors import BadParameter
from replicate.runs import ranks

HELD_BACK = 5  # seconds in which torchrun ends the other ranks after the first has failed


@contextmanager
def join_ranks(batch_norm: str | None) -> Iterator[None]:
    """Runs within the block are made by all processes that torchrun started; by this one if there
    are no others.

    Only the first says anything. Raises BadParameter for a way of BatchNorm nobody knows, or one
    that is said to a process alone.
    """
    if not ranks.are_called():
        if batch_norm is not None:
            raise BadParameter("--batch-norm is for several ranks; start them with torchrun")
        yield
        return
    if os.environ.get("REPLICATE_WORKERS"):
        raise BadParameter("ranks share one run, workers take whole ones; leave out --workers")
    with ranks.join(batch_norm or ranks.MODES[0]), _be_quiet():
        from replicate.training import ranks as exchange

        with exchange.train_together((batch_norm or ranks.MODES[0]) == ranks.MODES[0]):
            yield


def refuse_what_cannot(experiments: Iterable, settings: Mapping[str, object]) -> None:
    """Raises BadParameter for an experiment that does not train by `training.steps`, and for
    mini-batches with fewer images than there are ranks. A process alone can do everything.
    """
    if ranks.count() == 1:
        return
    from replicate import runs

    for experiment in experiments:
        if "replicate.training.loop" not in runs.modules_of(experiment.run):
            raise BadParameter(
                f"{experiment.name} trains nothing that several ranks can share; run it without torchrun"
            )
        for entry, value in experiment.chosen(settings).items():
            batch = getattr(value, "batch", ranks.count())
            if batch < ranks.count():
                raise BadParameter(
                    f"{entry}: a mini-batch of {batch} images is too small for {ranks.count()} "
                    "ranks; start fewer of them"
                )


@contextmanager
def _be_quiet() -> Iterator[None]:
    """The ranks after the first print nothing but failures."""
    if ranks.is_first():
        yield
        return
    out, err = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err


def let_the_first_speak() -> None:
    """Called before a failure is printed: where all ranks fail alike, one line is enough.

    torchrun ends the others by SIGTERM, which otherwise raises here, and would be reported.
    """
    if ranks.are_called() and os.environ["RANK"] != "0":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(HELD_BACK)
