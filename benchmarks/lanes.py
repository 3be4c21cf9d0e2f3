"""Goal C4: many small networks side by side against a loop over them.

20 inputs, five hidden layers of 10. Compiled needs a C++ compiler and takes half a minute once; the
eager lanes need neither. The line of jax says what the order of the axes gains: rows as columns, so
that each product is a narrow matrix times a wide one, and a whole run in one compiled loop. It is
not of the package, whose jax nets are those of `descent`.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import harness, peers
from replicate.models import mlp
from replicate.optim import SGD
from replicate.training import Flat, Lanes, flat_weights

SETTINGS = {"lr": 0.01, "momentum": 0.9}
STEPS = 10  # of a round
INPUTS = 20
LOOP = "a loop"
COMPILED = "compiled lanes"
LANES = "lanes"
IN_JAX = "lanes in jax, features first"
KEYS = {
    (64, 128): {LANES: "C4 64 networks", COMPILED: "C4 64 networks compiled"},
    (256, 32): {LANES: "C4 256 networks", COMPILED: "C4 256 networks compiled"},
}


@dataclass(frozen=True)
class Size:
    """counts: (networks, rows of a batch), compiled: also with torch.compile."""

    counts: tuple[tuple[int, int], ...] = ((64, 128), (256, 32))
    compiled: bool = True
    rounds: int = harness.ROUNDS


FULL = Size()
TINY = Size(((3, 8),), compiled=False, rounds=1)


def measure(size: Size) -> Iterator[harness.Table]:
    """A table per number of networks."""
    for count, rows in size.counts:
        versions = make_versions(count, rows, size.compiled)
        keys = KEYS.get((count, rows), {})
        goals = {key: (LOOP, name) for name, key in keys.items() if name in versions}
        yield harness.compare(
            harness.Comparison(
                f"{count} networks, batch {rows}, {STEPS} steps",
                {name: job for name, (job, _) in versions.items()},
                lambda versions=versions: step_once(versions),
                (1e-4, 1e-6),
                goals,
                size.rounds,
            )
        )


def make_versions(count: int, rows: int, compiled: bool) -> dict[str, tuple[Callable, Callable]]:
    """name -> (job of STEPS steps, function that gives the weights); the last one is ours."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, rows, INPUTS, generator=generator)
    y = torch.randint(0, 2, (count, rows), generator=generator)
    versions = {IN_JAX: put_features_first(x, y), LOOP: loop(x, y)}
    if compiled and (shutil.which("g++") or shutil.which("clang++")):
        versions[COMPILED] = put_side_by_side(x, y, compiled=True)
    versions[LANES] = put_side_by_side(x, y, compiled=False)
    return versions


def step_once(versions: dict) -> dict[str, np.ndarray]:
    """The weights of every version after a round."""
    for job, _ in versions.values():
        job()
    return {name: weights().numpy() for name, (_, weights) in versions.items()}


def make_network(seed: int) -> nn.Module:
    """A network; its last layer has two outputs, the fewest a classifier has."""
    return mlp(INPUTS, (10,) * 5, 2, seed)


def repeat(step: Callable) -> harness.Job:
    """A job: STEPS of these."""
    return lambda: [step() for _ in range(STEPS)]


def loop(x: Tensor, y: Tensor) -> tuple[Callable, Callable]:
    """A step of every network, one after the other."""
    models = [make_network(seed) for seed in range(len(x))]
    job = repeat(peers.step_each(models, x, y, **SETTINGS))
    return job, lambda: torch.stack([flat_weights(model) for model in models])


def put_side_by_side(x: Tensor, y: Tensor, compiled: bool) -> tuple[Callable, Callable]:
    """A step of all lanes."""
    weights = torch.stack([flat_weights(make_network(seed)) for seed in range(len(x))])
    lanes = Lanes(Flat(make_network(0)), weights)
    optimizer = SGD(lanes.groups(), fused=True, **SETTINGS)
    gradient = lanes.gradient(functional.cross_entropy, compiled)

    def step():
        gradient(x, y)
        optimizer.step()

    return repeat(step), lanes.rows


def put_features_first(x: Tensor, y: Tensor) -> tuple[Callable, Callable]:
    """A round of all lanes in jax, compiled."""
    run = jax.jit(make_round())
    start = jnp.asarray(np.stack([flat_weights(make_network(i)).numpy() for i in range(len(x))]))
    state = [start, jnp.zeros_like(start)]
    data = (jnp.asarray(x.numpy().swapaxes(1, 2)), jnp.asarray(y.numpy()))

    def job():
        state[:] = jax.block_until_ready(run(tuple(state), *data))

    return job, lambda: torch.from_numpy(np.array(state[0]))


def make_round() -> Callable:
    """(weights and momentum, x, y) -> the same after STEPS steps of all lanes, in jax."""
    shapes = [tuple(p.shape) for p in make_network(0).parameters()]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def loss(weights, x, y):
        arrays = jnp.split(weights, ends)
        arrays = [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
        for i in range(0, len(arrays), 2):
            x = arrays[i] @ x + arrays[i + 1][:, None]
            x = jnp.maximum(x, 0) if i < len(arrays) - 2 else x
        of_label = jnp.take_along_axis(x, y[None], axis=0)[0]
        return jnp.mean(jax.nn.logsumexp(x, axis=0) - of_label)

    def run(state, x, y):
        def step(state, _):
            weights, momentum = state
            slope = jax.vmap(jax.grad(loss))(weights, x, y)
            momentum = SETTINGS["momentum"] * momentum + slope
            return (weights - SETTINGS["lr"] * momentum, momentum), None

        return jax.lax.scan(step, state, length=STEPS)[0]

    return run
