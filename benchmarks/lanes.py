"""Goal C4: many small networks side by side against a loop over them; 20 inputs, five hidden layers of 10.

Compiled needs a C++ compiler and takes half a minute once; the eager lanes need neither. The line of jax says what the
order of the axes is worth: rows as columns, so that each product is a narrow matrix times a wide one, and a whole run
in one compiled loop. It is no part of the package, whose jax nets are those of `descent`.
"""

import os
import shutil
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
import torch
from _interleaved import ratios, table
from torch import nn
from torch.nn import functional

from replicate.models import mlp
from replicate.optim import SGD
from replicate.training import Flat, Lanes, flat_weights

ABOUT = {"lr": 0.01, "momentum": 0.9}
STEPS = 10  # a round
JOBS = {"64 networks, batch 128": (64, 128, 6, 18), "256 networks, batch 32": (256, 32, 20, 50)}


def network(seed: int) -> nn.Module:
    """One of the networks; its last layer has two outputs, the fewest a classifier has."""
    return mlp(20, (10,) * 5, 2, seed)


def loop(x, y):
    """A step of every network, one after the other."""
    models = [network(seed) for seed in range(len(x))]
    optimizers = [SGD(model.parameters(), **ABOUT) for model in models]

    def step():
        for model, optimizer, images, labels in zip(models, optimizers, x, y, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

    return step, lambda: torch.stack([flat_weights(model) for model in models])


def side_by_side(x, y, compiled):
    """A step of all lanes."""
    lanes = Lanes(Flat(network(0)), torch.stack([flat_weights(network(seed)) for seed in range(len(x))]))
    optimizer = SGD(lanes.groups(), fused=True, **ABOUT)
    gradient = lanes.gradient(functional.cross_entropy, compiled)

    def step():
        gradient(x, y)
        optimizer.step()

    return step, lanes.rows


def features_first(x, y):
    """A round of all lanes in jax, compiled."""
    shapes = [tuple(p.shape) for p in network(0).parameters()]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def loss(weights, x, y):
        parts = [part.reshape(shape) for part, shape in zip(jnp.split(weights, ends), shapes, strict=True)]
        for i in range(0, len(parts), 2):
            x = parts[i] @ x + parts[i + 1][:, None]
            x = jnp.maximum(x, 0) if i < len(parts) - 2 else x
        return jnp.mean(jax.nn.logsumexp(x, axis=0) - jnp.take_along_axis(x, y[None], axis=0)[0])

    @jax.jit
    def run(state, x, y):
        def step(state, _):
            weights, momentum = state
            momentum = ABOUT["momentum"] * momentum + jax.vmap(jax.grad(loss))(weights, x, y)
            return (weights - ABOUT["lr"] * momentum, momentum), None

        return jax.lax.scan(step, state, length=STEPS)[0]

    start = jnp.asarray(np.stack([flat_weights(network(seed)).numpy() for seed in range(len(x))]))
    state, data = [start, jnp.zeros_like(start)], (jnp.asarray(x.numpy().swapaxes(1, 2)), jnp.asarray(y.numpy()))

    def round_():
        state[:] = jax.block_until_ready(run(tuple(state), *data))

    return round_, lambda: torch.from_numpy(np.array(state[0]))


def rounds(step):
    """A step, many times."""
    return lambda: [step() for _ in range(STEPS)]


def main() -> int:
    """Equal weights first, then the ratios."""
    torch.set_num_threads(1)
    for title, (count, size, eager, goal) in JOBS.items():
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(count, size, 20, generator=generator)
        y = torch.randint(0, 2, (count, size), generator=generator)
        made = {"a loop": loop(x, y)}
        if shutil.which("g++") or shutil.which("clang++"):
            made["compiled lanes"] = side_by_side(x, y, compiled=True)
        made["lanes"] = side_by_side(x, y, compiled=False)
        made = {name: (rounds(step), rows) for name, (step, rows) in made.items()}
        made = {"lanes in jax, features first": features_first(x, y)} | made
        for round_, _ in made.values():
            round_()
        ends = [rows() for _, rows in made.values()]
        for end in ends[1:]:
            torch.testing.assert_close(end, ends[0], rtol=1e-4, atol=1e-6)
        found = ratios({name: round_ for name, (round_, _) in made.items()})
        print(table(title, found))
        for name, one in found.items():
            print(f"  the loop over {name}: {np.median(found['a loop'] / one):.1f}x")
        print(f"  goal C4: the loop at least {eager}x eager lanes, {goal}x compiled ones")
    return 0


if __name__ == "__main__":
    sys.exit(main())
