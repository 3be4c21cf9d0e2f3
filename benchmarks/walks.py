"""Goals C5 and C6: a training loop and a walk of one small net, compiled whole, against eager torch.

20 inputs, six hidden layers of 10, as in the source's Figure 9. The peers are what one writes first: a loop over
backward passes and SGD, and inside it a while-loop that asks for the loss by `.item()`.
"""

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
import torch
from _interleaved import ratios, table
from torch import nn

from replicate import descent, optim
from replicate.descent import Sgd, Stepping

NET, LR, MAX_STEPS = descent.published_net(20, 10, 5), 1e-3, 50
ROUNDS = 7
TRAINED = {128: (400, 12), 10_000: (40, 2)}  # rows -> gradients of a run, goal C5
WALKED = {128: (40, 8), 10_000: (10, 2.6)}  # rows -> gradients of a run, goal C6
AT_ONCE, GOAL_AT_ONCE = 16, 18


def torch_net() -> nn.Module:
    """The net in torch's order of the axes, at the same weights."""
    layers = [nn.Linear(*pair) for pair in zip(NET.dims[:-1], NET.dims[1:], strict=True)]
    model = nn.Sequential(*layers)
    start = torch.from_numpy(descent.initial_weights(NET, 0, "float32"))
    nn.utils.vector_to_parameters(start.clone(), model.parameters())
    return model


def eager(data, optimizer_of, steps: int, walk=None) -> list[float]:
    """Losses before each step: the loop of a tutorial. walk: what to do instead of a step of the optimizer."""
    model = torch_net()
    x, y = torch.from_numpy(np.ascontiguousarray(data.x.T)), torch.from_numpy(data.y)[:, None]
    optimizer, losses = optimizer_of(model.parameters()), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        losses.append(loss.item())
        if walk is None:
            optimizer.step()
        else:
            walk(optimizer, lambda: nn.functional.mse_loss(model(x), y), loss)
    return losses


@torch.no_grad()
def plain_walk(optimizer, closure, loss) -> None:
    """Keep stepping while the loss falls, as one writes it first: `optimizer` is SGD."""
    old = loss.item()
    for _ in range(MAX_STEPS):
        optimizer.step()
        new = closure().item()
        if not new < old:
            break
        old = new


def trained(rows: int) -> dict:
    """name -> job that gives the losses, for C5; the last is ours."""
    steps, data = TRAINED[rows][0], descent.rows(rows, 20, 0, "float32")
    loss, start = descent.rows_loss(NET), descent.initial_weights(NET, 0)
    moments, by_moments = descent.moments(data), descent.moments_loss(NET)
    return {
        "torch, SGD": lambda: eager(data, lambda p: optim.SGD(p, lr=LR), steps),
        "torch, fused SGD": lambda: eager(data, lambda p: optim.SGD(p, lr=LR, fused=True), steps),
        "by second moments, float64": lambda: descent.train(Sgd(), by_moments, moments, start, LR, steps).losses[:-1],
        "descent.train": lambda: descent.train(Sgd(), loss, data, start, LR, steps, "float32").losses[:-1],
    }


def walked(rows: int) -> tuple[dict, descent.Run, descent.Run]:
    """name -> job that gives the losses, for C6; and the runs one by one and many at once."""
    steps, data = WALKED[rows][0], descent.rows(rows, 20, 0, "float32")
    loss, start = descent.rows_loss(NET), descent.initial_weights(NET, 0)
    moments, by_moments = descent.moments(data), descent.moments_loss(NET)
    one, many = Stepping(MAX_STEPS), Stepping(MAX_STEPS, at_once=AT_ONCE)

    def run(method, dtype="float32", loss=loss, data=data):
        return descent.train(method, loss, data, start, LR, steps, dtype, path=True)

    keep = lambda p: optim.KeepStepping(p, LR, MAX_STEPS)  # noqa: E731
    jobs = {
        "torch, while with .item()": lambda: eager(data, lambda p: optim.SGD(p, lr=LR), steps, plain_walk),
        "optim.KeepStepping": lambda: eager(data, keep, steps, lambda own, closure, known: own.step(closure, known)),
        "by second moments, float64": lambda: run(one, "float64", by_moments, moments).losses[:-1],
        f"descent.train, {AT_ONCE} at once": lambda: run(many).losses[:-1],
        "descent.train": lambda: run(one).losses[:-1],
    }
    found = descent.ties(many, loss, data, run(one).path, LR, "float32")
    print(
        f"  {rows} rows: of {found.steps} steps {found.differing} differ at once, {found.last_digit} by the last digit"
    )
    return jobs, run(one), run(many)


def equal(jobs: dict) -> bool:
    """Whether all give the same losses; says so if not."""
    losses = {name: np.asarray(job()) for name, job in jobs.items()}
    reference = losses[list(losses)[-1]]
    apart = {name: np.max(np.abs(one / reference - 1)) for name, one in losses.items()}
    if max(apart.values()) < 1e-3:
        return True
    print(f"  results differ: {apart}")
    return False


def main() -> int:
    """Equal results first, then the ratios; 1 if results differ."""
    torch.set_num_threads(1)
    for rows, (steps, goal) in TRAINED.items():
        jobs = trained(rows)
        if not equal(jobs):
            return 1
        found = ratios(jobs, ROUNDS)
        print(table(f"SGD, {rows} rows, {steps} gradients", found))
        print(f"  goal C5: torch at least {goal}x, found {np.median(found['torch, SGD']):.1f}x")
    for rows, (steps, goal) in WALKED.items():
        jobs, one, many = walked(rows)
        if not equal(jobs):
            return 1
        useful = [run.forwards[-1] for run in (one, many)]
        found = ratios(jobs, ROUNDS)
        print(table(f"KeepStepping, {rows} rows, {steps} gradients, {useful[0]} forward passes", found))
        while_loop, at_once = found["torch, while with .item()"], found[f"descent.train, {AT_ONCE} at once"]
        print(f"  goal C6: torch at least {goal}x, found {np.median(while_loop):.1f}x")
        print(f"  goal C6: {AT_ONCE} at once, {useful[1]} useful: found {np.median(while_loop / at_once):.1f}x", end="")
        print(f" of {GOAL_AT_ONCE}x" if rows == 128 else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
