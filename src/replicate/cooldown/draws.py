"""batch = f(stream, step): the same mini-batch, and the same dropout in it, whenever it is asked for.

A cool-down has to see the mini-batches of the run that it left, and a run that was cut has to go on
with those that it would have seen. So the order of a data set is drawn here, from seed, stream and
epoch, and every generator that a forward pass may use is seeded anew before each batch.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from replicate.errors import BadParameter
from replicate.streams import rng

BATCH_FORMS = "a DataLoader over a data set with a length, a sequence of batches, or a function of (stream, step)"
EPOCHS_AT_HAND = 8  # orders that are kept: of the main run, its trips and the batches to judge on
Draw = Callable[[int, int], object]


class Draws:
    """A reader's mini-batches by stream and step, on one device."""

    def __init__(self, batches, seed: int, device: torch.device):
        """batches: BATCH_FORMS. Raises BadParameter on anything else, or if there is nothing in it."""
        self._draw, self.per_epoch = _read(batches, seed)
        self.seed = seed
        self.device = device
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[device.index or 0])

    def batch(self, stream: int, step: int):
        """The batch; dropout and augmentation that follow are those of this stream and step.

        Raises BadParameter if there is none.
        """
        self.seed_generators(stream, step)
        try:
            batch = self._draw(stream, step)
        except (StopIteration, IndexError) as error:
            raise _say_exhausted(stream, step, f"{type(error).__name__} {error}".strip()) from error
        if batch is None:
            raise _say_exhausted(stream, step, "None")
        self.seed_generators(
            stream, step
        )  # a batch that is made once and kept leaves the same state
        return move(batch, self.device)

    def seed_generators(self, stream: int, step: int) -> None:
        """Set the generators of torch, NumPy and Python to where this stream and step begin."""
        words = rng(self.seed, "dropout", step, stream).integers(2**32, size=3)
        # Not torch.manual_seed, which keeps a traceback a call for a CUDA that is not in use.
        for generator in self._generators:
            generator.manual_seed(int(words[0]))
        np.random.seed(int(words[1]))  # noqa: NPY002 - what data sets of others draw from
        random.seed(int(words[2]))

    def check(self, stream: int) -> None:
        """Raises BadParameter unless the first batch of a stream is the same when drawn twice."""
        if not equal(self.batch(stream, 0), self.batch(stream, 0)):
            raise BadParameter(
                "batches must give the same batch for the same stream and step, got two different "
                "ones; draw from stream and step, or from torch, NumPy or random, seeded before each"
            )


@contextmanager
def randomness_restored(device: torch.device) -> Iterator[None]:
    """The generators of torch, NumPy and Python as they were before."""
    of_python = random.getstate()
    of_numpy = np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


def move(batch, device: torch.device):
    """A batch with every tensor in its tuples, lists and dicts on the device."""
    return _map(batch, lambda tensor: tensor.to(device, non_blocking=True))


def equal(first, second) -> bool:
    """Whether two batches hold the same tensors."""
    ours = list_tensors(first)
    theirs = list_tensors(second)
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def list_tensors(batch) -> list[Tensor]:
    """The tensors of a batch, in their order."""
    tensors = []
    _map(batch, tensors.append)
    return tensors


def _map(batch, function: Callable):
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: _map(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_map(value, function) for value in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(_map(value, function) for value in batch)
    return batch


def _say_exhausted(stream: int, step: int, reason: str) -> BadParameter:
    return BadParameter(
        f"batches are used up at step {step} of stream {stream} ({reason}); give more, or a sequence "
        "or DataLoader, which begins anew after each epoch"
    )


def _read(batches, seed: int) -> tuple[Draw, int | None]:
    """What draws a batch, and how many there are an epoch if that can be said."""
    if isinstance(batches, DataLoader):
        return _read_loader(batches, seed)
    if hasattr(batches, "__getitem__") and hasattr(batches, "__len__"):
        if not len(batches):
            raise BadParameter("batches must hold at least one batch, got none")
        return _read_sequence(batches, seed), len(batches)
    if callable(batches):
        return batches, None
    raise BadParameter(
        f"batches must be {BATCH_FORMS}, got {type(batches).__name__}, which gives each batch once"
    )


def _read_sequence(batches: Sequence, seed: int) -> Draw:
    place = _places(len(batches), 1, seed)
    return lambda stream, step: batches[int(place(stream, step)[0])]


def _read_loader(loader: DataLoader, seed: int) -> tuple[Draw, int]:
    plain = type(loader.sampler) in (RandomSampler, SequentialSampler)
    if not (plain and type(loader.batch_sampler) is BatchSampler):
        raise BadParameter(
            f"batches must be {BATCH_FORMS}; this DataLoader has a sampler of its own, whose order cannot "
            "be drawn twice"
        )
    count = len(loader.dataset)
    if not count:
        raise BadParameter("batches must hold at least one batch, got an empty data set")
    if not len(loader):
        raise BadParameter(
            f"batches must hold at least one batch, got {count} examples for batches of "
            f"{loader.batch_size} and drop_last"
        )
    size = min(loader.batch_size, count)
    place = _places(count, size, seed)

    def draw(stream: int, step: int):
        return loader.collate_fn([loader.dataset[int(i)] for i in place(stream, step)])

    return draw, count // size


def _places(count: int, size: int, seed: int) -> Callable[[int, int], np.ndarray]:
    """(stream, step) -> the places of a batch's examples in the data set, (size,); a last batch that
    is not full is left out of its epoch.
    """

    @lru_cache(maxsize=EPOCHS_AT_HAND)
    def order(stream: int, epoch: int) -> np.ndarray:
        return rng(seed, "order", epoch, stream).permutation(count)

    def place(stream: int, step: int) -> np.ndarray:
        epoch, index = divmod(step, count // size)
        return order(stream, epoch)[index * size : (index + 1) * size]

    return place
