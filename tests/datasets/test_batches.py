"""Mini-batches are functions of (seed, stream, step), and each image is what the plain definition
makes of it.
"""

import numpy as np
import pytest
import torch

from replicate.datasets import Batches
from replicate.streams import rng

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (50, 9, 7, 3), dtype=np.uint8), DRAW.integers(0, 10, 50)
ALL = {
    "size": 8,
    "classes": 10,
    "pad": 2,
    "flip": True,
    "pixel_noise": 0.3,
    "label_noise": 0.4,
    "cutout": 4,
}


def plainly(seed, stream, step, size=8, pad=2):
    """One batch, image by image, straight from the definition."""
    epoch, index = divmod(step, len(X) // size)
    order = rng(seed, "order", epoch, stream).permutation(len(X))
    crop, noise = rng(seed, "augment", epoch, stream), rng(seed, "noise", epoch, stream)
    corners, mirrored = crop.integers(0, 2 * pad + 1, (2, len(X))), crop.random(len(X)) < 0.5
    middles = np.stack([crop.integers(0, 9, len(X)), crop.integers(0, 7, len(X))])
    pixels = noise.standard_normal(X.shape, dtype=np.float32)
    wrong, label = noise.random(len(X)) < 0.4, noise.integers(0, 10, len(X))
    mean, deviation = X.reshape(-1, 3).mean(0), X.reshape(-1, 3).std(0)
    images, labels = [], []
    for row in range(index * size, (index + 1) * size):
        top, left = corners[:, row]
        image = np.pad(X[order[row]], ((pad, pad), (pad, pad), (0, 0)))[
            top : top + 9, left : left + 7
        ]
        image = image[:, ::-1] if mirrored[row] else image
        image = (image - mean) / deviation
        down, right = middles[:, row]
        image[max(0, down - 2) : down + 2, max(0, right - 2) : right + 2] = 0
        images.append((image + 0.3 * pixels[row]).transpose(2, 0, 1))
        labels.append(label[row] if wrong[row] else Y[order[row]])
    return np.array(images), np.array(labels)


@pytest.mark.parametrize(("seed", "stream", "step"), [(0, 0, 0), (3, 0, 5), (3, 2, 6), (3, 0, 17)])
def test_a_batch_is_the_plain_definition_image_by_image(seed, stream, step):
    x, y = Batches(X, Y, **ALL).batch(seed, stream, step)
    images, labels = plainly(seed, stream, step)
    assert np.abs(x.numpy() - images).max() < 2e-5
    assert np.array_equal(y.numpy(), labels)
    assert x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32


@pytest.mark.parametrize("pad", [0, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_move_pixels_and_change_none(pad, flip):
    data = Batches(X, Y, 8, 10, pad=pad, flip=flip)
    image, label = (part[5] for part in data.batch(0, 0, 3))
    row = 3 * 8 + 5
    number = rng(0, "order", 0).permutation(50)[row]
    draw = rng(0, "augment", 0)
    top, left = draw.integers(0, 2 * pad + 1, (2, 50))[:, row] if pad else (0, 0)
    whole = np.pad(X[number], ((pad, pad), (pad, pad), (0, 0)))
    window = data.plain(whole[None, top : top + 9, left : left + 7], Y[:1])[0][0]
    mirrored = flip and (draw.random(50) < 0.5)[row]
    assert torch.equal(image, window.flip(2) if mirrored else window) and label == Y[number]


def test_runs_side_by_side_have_the_batches_they_have_alone():
    data, alone = Batches(X, Y, **ALL), Batches(X, Y, **ALL)
    runs = [(0, 0), (3, 1), (0, 0), (3, 0)]
    for step in (0, 5, 6):
        x, y = data.batches(runs, step)
        assert x.shape == (4, 8, 3, 9, 7) and y.shape == (4, 8)
        for lane, run in enumerate(runs):
            images, labels = alone.batch(*run, step)
            assert torch.equal(x[lane], images) and torch.equal(y[lane], labels)


def test_batches_of_another_size_are_those_that_were_made_with_it_and_share_the_pixels():
    data = Batches(X, Y, **ALL)
    other, fresh = data.resize(12), Batches(X, Y, **(ALL | {"size": 12}))
    assert all(
        torch.equal(a, b) for a, b in zip(other.batch(0, 0, 5), fresh.batch(0, 0, 5), strict=True)
    )
    assert other._x is data._x and data.batch(0, 0, 0)[0].shape[0] == 8
    with pytest.raises(ValueError, match=r"size must be in \[1, 50\], got 51"):
        data.resize(51)


def test_batches_that_share_pixels_do_not_share_their_place():
    """Each of them may be in another epoch."""
    data = Batches(X, Y, **ALL)
    before = data.batch(0, 0, 0)
    data.resize(12).batch(5, 1, 20)
    after = data.batch(0, 0, 0)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_an_epoch_holds_each_image_once_but_for_its_incomplete_batch():
    data = Batches(np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1), np.arange(50) % 10, 8, 10)
    seen = torch.cat([data.batch(1, 0, step)[0].flatten() for step in range(6)])
    assert data.per_epoch == 6
    assert len(seen.unique()) == 48


def test_steps_can_be_asked_for_in_any_order():
    forward, backward = Batches(X, Y, **ALL), Batches(X, Y, **ALL)
    a = [forward.batch(0, 0, step) for step in range(14)]
    b = [backward.batch(0, 0, step) for step in reversed(range(14))][::-1]
    assert all(
        torch.equal(p, q)
        for one, two in zip(a, b, strict=True)
        for p, q in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("change", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 6)])
def test_seed_stream_and_step_each_give_another_batch(change):
    data = Batches(X, Y, **ALL)
    assert not torch.equal(data.batch(0, 0, 0)[0], data.batch(*change)[0])


def test_label_noise_redraws_the_stated_share_of_labels():
    x, y = np.zeros((20_000, 1, 1, 1), np.uint8), np.zeros(20_000, int)
    x[::2] = 1
    _, labels = Batches(x, y, 100, 10, label_noise=0.1).draws(0, 5, 20_000)
    assert float((labels != 0).double().mean()) == pytest.approx(
        0.09, abs=4 * (0.09 * 0.91 / 20_000) ** 0.5
    )


def test_draws_are_the_first_images_of_a_stream():
    data = Batches(X, Y, **ALL)
    x, y = data.draws(0, 3, 20)
    parts = [data.batch(0, 3, step) for step in range(3)]
    assert torch.equal(x, torch.cat([p for p, _ in parts])[:20])
    assert torch.equal(y, torch.cat([p for _, p in parts])[:20])


def test_plain_images_are_standardised_and_otherwise_untouched():
    x, y = Batches(X, Y, **ALL).plain(X, Y)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert np.array_equal(y.numpy(), Y)
    values = (X[4, 2, 3] - X.reshape(-1, 3).mean(0)) / X.reshape(-1, 3).std(0)
    assert np.abs(x[4, :, 2, 3].numpy() - values).max() < 1e-5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 51}, r"size must be in \[1, 50\], got 51"),
        ({"size": 0}, "size must be"),
        ({"cutout": 3}, r"cutout must be even and in \[0, 9\], got 3"),
        ({"cutout": 10}, "cutout must be"),
        ({"label_noise": 1.1}, r"label_noise must be in \[0, 1\], got 1.1"),
        ({"pixel_noise": -1.0}, "pixel_noise and pad must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Batches(X, Y, **(ALL | wrong))
