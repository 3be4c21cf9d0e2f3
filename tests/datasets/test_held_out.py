"""Images in reserve and all others never meet, and both are what `data` makes of their rows."""

import numpy as np
import pytest
import torch

from replicate import datasets

COUNT = 12
N = 40


@pytest.fixture
def data() -> datasets.Batches:
    """Every image is its number, so that one can be told by its pixels."""
    x = np.repeat(np.arange(N, dtype=np.uint8), 3).reshape(N, 1, 1, 3)
    return datasets.Batches(x, np.arange(N) % 10, 4, 10, label_noise=0.5)


def numbers(data: datasets.Batches, images: torch.Tensor) -> list[int]:
    pixels = np.arange(N)
    values = (pixels - pixels.mean()) / pixels.std()
    return [int(np.abs(values - float(image[0, 0, 0])).argmin()) for image in images]


def test_a_batch_holds_no_image_in_reserve(data):
    split = datasets.HeldOut(data, 1, 9, COUNT)
    reserve = {n for j in range(3) for n in numbers(data, split.draw_reserved(4, j)[0])}
    assert len(reserve) == COUNT
    for index in range(5):
        batch = numbers(data, split.batch(N - COUNT, index)[0])
        assert set(batch) == set(range(N)) - reserve and len(batch) == N - COUNT


def test_a_smaller_batch_begins_a_larger_one_and_another_draw_is_another(data):
    split = datasets.HeldOut(data, 1, 9, COUNT)
    large, small = split.batch(20, 3), split.batch(6, 3)
    assert torch.equal(large[0][:6], small[0]) and torch.equal(large[1][:6], small[1])
    assert numbers(data, split.batch(20, 4)[0]) != numbers(data, large[0])


def test_it_is_gathered_as_training_gathers_rows(data):
    """Labels are drawn anew with the epoch, as in training."""
    split = datasets.HeldOut(data, 1, 9, COUNT)
    reserve = set(data.tables(1, 9, 0)["order"][:COUNT].tolist())
    tables = data.tables(1, 9, 7)
    rows = [i for i in range(N) if int(tables["order"][i]) not in reserve][:5]
    wanted = [data.gather({name: t[i : i + 1] for name, t in tables.items()}) for i in rows]
    images, labels = split.batch(5, 7)
    assert torch.equal(images, torch.cat([x for x, _ in wanted]))
    assert labels.tolist() == [int(y) for _, y in wanted]


def test_the_reserve_comes_round_with_new_noise(data):
    split = datasets.HeldOut(data, 1, 9, COUNT)
    first, again = split.draw_reserved(4, 0), split.draw_reserved(4, 3)
    assert sorted(numbers(data, first[0])) == sorted(numbers(data, again[0]))
    assert len({tuple(split.draw_reserved(COUNT, j)[1].tolist()) for j in range(4)}) == 4


@pytest.mark.parametrize("size", [0, N - COUNT + 1])
def test_a_batch_of_more_images_than_there_are_is_refused(data, size):
    with pytest.raises(ValueError, match=rf"size must be in \[1, {N - COUNT}\], got {size}"):
        datasets.HeldOut(data, 1, 9, COUNT).batch(size, 0)


@pytest.mark.parametrize("size", [0, 5])
def test_a_reserve_of_no_whole_batches_is_refused(data, size):
    with pytest.raises(ValueError, match=f"size must divide the 12 in reserve, got {size}"):
        datasets.HeldOut(data, 1, 9, COUNT).draw_reserved(size, 0)


@pytest.mark.parametrize("count", [0, N])
def test_all_or_nothing_in_reserve_is_refused(data, count):
    with pytest.raises(ValueError, match=rf"count must be in \[1, {N - 1}\], got {count}"):
        datasets.HeldOut(data, 1, 9, count)
