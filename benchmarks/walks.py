"""Goals C5 and C6: training and walks of one small net, compiled whole, against eager torch.

20 inputs, six hidden layers of 10, as in the source's Figure 9. The peers are what one writes
first: a loop over backward passes and SGD, and inside it a while-loop that reads the loss.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks import harness, peers
from replicate import descent, optim
from replicate.descent import Sgd, Stepping

NET = descent.published_net(20, 10, 5)
LR = 1e-3
MAX_STEPS = 50
MANY = 16  # mini-steps at once
EAGER = "torch, SGD"
WHILE = "torch, while with .item()"
TRAIN = "descent.train"
AT_ONCE = f"descent.train, {MANY} at once"
TOLERANCE = (1e-3, 0.0)
# (rows, gradients of a run) -> the job of ours -> the goal
TRAINED_KEYS = {(128, 400): {TRAIN: "C5 128 rows"}, (10_000, 40): {TRAIN: "C5 10000 rows"}}
WALKED_KEYS = {
    (128, 40): {TRAIN: "C6 128 rows", AT_ONCE: "C6 128 rows at once"},
    (10_000, 10): {TRAIN: "C6 10000 rows"},
}


@dataclass(frozen=True)
class Size:
    """trained, walked: (rows, gradients of a run) of goals C5 and C6."""

    trained: tuple[tuple[int, int], ...] = ((128, 400), (10_000, 40))
    walked: tuple[tuple[int, int], ...] = ((128, 40), (10_000, 10))
    rounds: int = 7


FULL = Size()
TINY = Size(((16, 3),), ((16, 3),), rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """Training, then walks."""
    for rows, steps in size.trained:
        jobs = make_training(rows, steps)
        keys = TRAINED_KEYS.get((rows, steps), {})
        yield harness.compare(
            harness.Comparison(
                f"SGD, {rows} rows, {steps} gradients",
                jobs,
                partial(list_losses, jobs),
                TOLERANCE,
                {key: (EAGER, name) for name, key in keys.items()},
                size.rounds,
            )
        )
    for rows, steps in size.walked:
        yield from measure_walks(rows, steps, size.rounds)


def measure_walks(rows: int, steps: int, rounds: int) -> Iterator[harness.Table]:
    """The ratios, then how often many mini-steps at once stop elsewhere than they do in turn."""
    jobs, run = make_walks(rows, steps)
    keys = WALKED_KEYS.get((rows, steps), {})
    yield harness.compare(
        harness.Comparison(
            f"KeepStepping, {rows} rows, {steps} gradients",
            jobs,
            partial(list_losses, jobs),
            TOLERANCE,
            {key: (WHILE, name) for name, key in keys.items()},
            rounds,
        )
    )
    in_turn = Stepping(MAX_STEPS)
    many = Stepping(MAX_STEPS, at_once=MANY)
    data = descent.rows(rows, 20, 0, "float32")
    ties = descent.ties(many, descent.rows_loss(NET), data, run(in_turn).path, LR, "float32")
    counts = {
        "forward passes in turn": run(in_turn).forwards[-1],
        f"useful forward passes, {MANY} at once": run(many).forwards[-1],
        "steps of which": ties.steps,
        "differ at once": ties.differing,
        "differ by the last digit": ties.last_digit,
    }
    yield harness.Table(
        "what was walked", [harness.Row("", name, "count", [n]) for name, n in counts.items()]
    )


def make_torch_net() -> nn.Module:
    """The net in torch's order of the axes, at the same weights."""
    layers = [nn.Linear(*pair) for pair in zip(NET.dims[:-1], NET.dims[1:], strict=True)]
    model = nn.Sequential(*layers)
    start = torch.from_numpy(descent.initial_weights(NET, 0, "float32"))
    nn.utils.vector_to_parameters(start.clone(), model.parameters())
    return model


def make_eager(data, optimizer_of: Callable, steps: int, walk: Callable | None = None) -> Callable:
    """A job that gives the losses of a fresh net in torch."""
    x = torch.from_numpy(np.ascontiguousarray(data.x.T))
    y = torch.from_numpy(data.y)[:, None]

    def job() -> list[float]:
        model = make_torch_net()
        optimizer = optimizer_of(model.parameters())
        return peers.descend_eagerly(model, x, y, optimizer, steps, walk)

    return job


def make_training(rows: int, steps: int) -> dict[str, harness.Job]:
    """name -> job that gives the losses, for C5; the last is ours."""
    data = descent.rows(rows, 20, 0, "float32")
    loss = descent.rows_loss(NET)
    start = descent.initial_weights(NET, 0)
    moments = descent.moments(data)
    by_moments = descent.moments_loss(NET)
    sgd = Sgd()
    return {
        EAGER: make_eager(data, partial(optim.SGD, lr=LR), steps),
        "torch, fused SGD": make_eager(data, partial(optim.SGD, lr=LR, fused=True), steps),
        "by second moments, float64": lambda: descent.train(
            sgd, by_moments, moments, start, LR, steps
        ).losses[:-1],
        TRAIN: lambda: descent.train(sgd, loss, data, start, LR, steps, "float32").losses[:-1],
    }


def make_walks(rows: int, steps: int) -> tuple[dict[str, harness.Job], Callable]:
    """name -> job that gives the losses, for C6; and a function that runs a method in float32."""
    data = descent.rows(rows, 20, 0, "float32")
    loss = descent.rows_loss(NET)
    start = descent.initial_weights(NET, 0)
    moments = descent.moments(data)
    by_moments = descent.moments_loss(NET)
    in_turn = Stepping(MAX_STEPS)
    many = Stepping(MAX_STEPS, at_once=MANY)

    def run(method, dtype="float32", loss=loss, data=data):
        return descent.train(method, loss, data, start, LR, steps, dtype, path=True)

    def keep(parameters):
        return optim.KeepStepping(parameters, LR, MAX_STEPS)

    def step(optimizer, closure, before):
        optimizer.step(closure, before)

    walk = partial(peers.walk_while_falling, most=MAX_STEPS)
    jobs = {
        WHILE: make_eager(data, partial(optim.SGD, lr=LR), steps, walk),
        "optim.KeepStepping": make_eager(data, keep, steps, step),
        "by second moments, float64": lambda: run(in_turn, "float64", by_moments, moments).losses[
            :-1
        ],
        AT_ONCE: lambda: run(many).losses[:-1],
        TRAIN: lambda: run(in_turn).losses[:-1],
    }
    return jobs, run


def list_losses(jobs: dict[str, harness.Job]) -> dict[str, np.ndarray]:
    """What every job gives."""
    return {name: np.asarray(job()) for name, job in jobs.items()}
