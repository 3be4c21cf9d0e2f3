"""The same batch whenever it is asked for, whatever it is drawn from."""

import random
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)

from replicate.cooldown.draws import Draws, move, randomness_restored
from replicate.errors import BadParameter

CPU = torch.device("cpu")
Pair = namedtuple("Pair", "x y")


class Augmented(Dataset):
    """Examples that are another each time: from torch, NumPy and Python."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return torch.tensor([i, torch.rand(()), np.random.rand(), random.random()])  # noqa: NPY002


class Stream(IterableDataset):
    def __iter__(self):
        yield from range(5)


def loader(**changes):
    return DataLoader(TensorDataset(torch.arange(10)), **{"batch_size": 3, **changes})


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_of_a_loader_shows_each_example_once_and_leaves_a_part_batch_out(shuffle):
    draws = Draws(loader(shuffle=shuffle), 0, CPU)
    assert draws.per_epoch == 3
    epochs = [torch.cat([draws.batch(4, 3 * epoch + i)[0] for i in range(3)]) for epoch in range(4)]
    assert all(len(set(epoch.tolist())) == 9 for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 4
    assert not torch.equal(draws.batch(4, 0)[0], draws.batch(5, 0)[0])
    again = Draws(loader(shuffle=shuffle), 0, CPU)
    assert torch.equal(again.batch(4, 10)[0], draws.batch(4, 10)[0])
    other = Draws(loader(shuffle=shuffle), 1, CPU)
    assert [other.batch(4, i)[0].tolist() for i in range(3)] != [
        each.tolist() for each in epochs[0].split(3)
    ]


def test_a_sequence_begins_anew_after_each_epoch_in_another_order():
    draws = Draws([torch.tensor(i) for i in range(6)], 0, CPU)
    epochs = [[int(draws.batch(4, 6 * epoch + i)) for i in range(6)] for epoch in range(3)]
    assert (
        all(sorted(epoch) == list(range(6)) for epoch in epochs)
        and len(set(map(tuple, epochs))) == 3
    )


def test_a_data_set_smaller_than_a_batch_is_one_batch():
    draws = Draws(loader(batch_size=64), 0, CPU)
    assert sorted(draws.batch(4, 7)[0].tolist()) == list(range(10)) and draws.per_epoch == 1


def test_what_a_data_set_draws_is_drawn_again():
    draws = Draws(DataLoader(Augmented(), batch_size=4), 0, CPU)
    first, second = draws.batch(4, 1), draws.batch(4, 0)
    assert torch.equal(draws.batch(4, 1), first)
    assert len(torch.cat([first, second])[:, 1:].unique()) == 24, "all numbers differ"


def test_what_follows_a_batch_does_not_depend_on_how_it_was_made():
    drawn = Draws(lambda stream, step: torch.rand(3), 0, CPU)
    kept = Draws(lambda stream, step: torch.zeros(3), 0, CPU)
    drawn.batch(4, 5)
    first = torch.rand(1)
    kept.batch(4, 5)
    assert torch.equal(torch.rand(1), first)


def test_generators_come_back():
    torch.manual_seed(3), np.random.seed(3), random.seed(3)  # noqa: NPY002
    expected = float(torch.rand(1)), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(3), np.random.seed(3), random.seed(3)  # noqa: NPY002
    with randomness_restored(CPU):
        Draws(loader(), 0, CPU).batch(4, 0)
    assert (float(torch.rand(1)), np.random.rand(), random.random()) == expected  # noqa: NPY002


def test_tensors_move_wherever_they_are():
    x = torch.zeros(2)
    moved = move({"a": [x, (x, "word")], "b": Pair(x, 3)}, torch.device("meta"))
    assert moved["a"][0].is_meta and moved["a"][1][0].is_meta and moved["a"][1][1] == "word"
    assert type(moved["b"]) is Pair and moved["b"].x.is_meta and moved["b"].y == 3


BAD = {
    "iterator": (iter([torch.zeros(1)]), "got list_iterator, which gives each batch once"),
    "generator": ((x for x in [1]), "got generator, which gives each batch once"),
    "number": (3, "got int"),
    "empty list": ([], "at least one batch, got none"),
    "empty data set": (DataLoader(TensorDataset(torch.zeros(0, 1)), sampler=torch.utils.data.SequentialSampler([])),
                       "empty data set"),
    "less than a batch": (loader(batch_size=11, drop_last=True), "10 examples for batches of 11 and drop_last"),
    "sampler": (loader(sampler=WeightedRandomSampler([1.0] * 10, 10)), "a sampler of its own"),
    "stream": (DataLoader(Stream(), batch_size=2), "a sampler of its own"),
    "no batches": (loader(batch_size=None), "a sampler of its own"),
}  # fmt: skip


@pytest.mark.parametrize("batches, line", BAD.values(), ids=BAD)
def test_what_gives_no_batch_twice_is_refused_in_a_line(batches, line):
    with pytest.raises(BadParameter, match=line) as error:
        Draws(batches, 0, CPU)
    assert "\n" not in str(error.value)


def end_at(step):
    def draw(stream, at):
        if at >= step:
            raise StopIteration
        return torch.zeros(1)

    return draw


@pytest.mark.parametrize(
    "draw", [end_at(7), lambda stream, step: [torch.zeros(1)] * 7 and ([0] * 7)[step],
             lambda stream, step: torch.zeros(1) if step < 7 else None],
    ids=["StopIteration", "IndexError", "None"],
)  # fmt: skip
def test_batches_that_are_used_up_are_named_in_a_line(draw):
    draws = Draws(draw, 0, CPU)
    draws.batch(4, 6)
    with pytest.raises(BadParameter, match="used up at step 7 of stream 4") as error:
        draws.batch(4, 7)
    assert "\n" not in str(error.value)


def test_batches_that_differ_when_drawn_again_are_refused():
    numbers = iter(range(100))
    with pytest.raises(BadParameter, match="the same batch for the same stream and step"):
        Draws(lambda stream, step: torch.tensor(next(numbers)), 0, CPU).check(0)
    Draws(lambda stream, step: torch.rand(2), 0, CPU).check(0)
