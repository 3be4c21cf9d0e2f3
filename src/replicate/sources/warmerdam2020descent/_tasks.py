"""The tasks of the post: rows, net, loss and starting weights of a seed.

The nets without ReLU are run on the second moments of (x, 1, y), of which alone their loss and
gradient depend, in float64; Figure 12 on its rows in float32.
"""

from __future__ import annotations

import numpy as np

from replicate import descent, models
from replicate.sources.warmerdam2020descent._arms import Task
from replicate.sources.warmerdam2020descent.settings import Settings
from replicate.streams import rng


def make_task(settings: Settings, seed: int, count: int | None = None) -> Task:
    """The loss, data and start of a seed: by moments where the net is linear, else by rows in
    float32.
    """
    net = net_of(settings)
    rows = draw_rows(settings, seed, count or settings.rows)
    if settings.activation == "linear":
        return Task(
            descent.moments_loss(net), descent.moments(rows), descent.initial_weights(net, seed)
        )
    return Task(descent.rows_loss(net), rows, descent.initial_weights(net, seed), "float32")


def draw_rows(settings: Settings, seed: int, count: int) -> descent.Rows:
    """x (inputs, count) and y (count,) as the printed function makes them, with the settings' noise
    on y.
    """
    rows = descent.rows(count, settings.columns, seed)
    if not settings.noise:
        return rows
    return descent.Rows(
        rows.x, rows.y + settings.noise * rng(seed, "noise", 1000).standard_normal(count)
    )


def net_of(settings: Settings) -> descent.Net:
    """The settings' net."""
    return descent.Net(settings.dims, settings.activation)


def orthogonal_start(settings: Settings, seed: int) -> np.ndarray:
    """Starting weights without a plateau, (P,): every map is a random isometry and every bias 0."""
    noise = rng(seed, "init", 1000)
    maps = []
    for inputs, outputs in zip(settings.dims, settings.dims[1:], strict=False):
        square = noise.standard_normal((max(inputs, outputs), min(inputs, outputs)))
        q, _ = np.linalg.qr(square)
        maps += [
            (q.T if outputs < inputs else q).reshape(outputs, inputs).ravel(),
            np.zeros(outputs),
        ]
    return np.concatenate(maps)


def make_torch_task(settings: Settings, seed: int) -> tuple:
    """x (n, inputs), y and the model in torch, as the printed function makes them; noise for a
    ResNet.
    """
    if settings.dataset == "resnet18":
        noise = rng(seed, "noise", 0)
        x = noise.standard_normal((settings.rows, 3, 32, 32)).astype(np.float32)
        return x, noise.integers(0, 10, settings.rows), models.resnet18(10, seed)
    rows = descent.rows(settings.rows, settings.columns, seed)
    return rows.x.T, rows.y[:, None], models.chain(settings.dims, seed, settings.activation)
