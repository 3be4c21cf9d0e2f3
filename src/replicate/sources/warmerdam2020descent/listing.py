"""KeepStepping and KeepVaulting in few lines, as they were meant, and the library's beside them.

Mini-step i of a walk along one gradient is lr (1 + scale sqrt(i)) long; a vault jumps to the lowest
point of the parabola through L(w), its slope -|g|^2 along -g, and L(w - lr g).
"""

import numpy as np
import pandas as pd

RATE, SCALE, MOST_STEPS = 0.02, 2.0, 50
GRADIENTS = 5
ROWS, COLUMNS = 200, 20


def keep_stepping(w, loss, gradient, lr, scale, most_steps):
    g, before = gradient(w), loss(w)
    for i in range(most_steps):
        w = w - lr * (1 + scale * i**0.5) * g
        after = loss(w)
        if not after < before:
            return w
        before = after
    return w


def keep_vaulting(w, loss, gradient, lr):
    g = gradient(w)
    bend = loss(w - lr * g) - loss(w) + lr * g @ g  # what a parabola lies above its tangent
    return w - lr * (lr * g @ g / (2 * bend)) * g


def run_beside_library() -> pd.DataFrame:
    """Weights of both methods after five gradients of a linear regression: columns method, listing
    and library.
    """
    import torch

    from replicate.optim import KeepStepping, KeepVaulting

    x = torch.from_numpy(np.random.default_rng(0).normal(size=(ROWS, COLUMNS)))

    def loss(w):
        return ((x @ (w - 1)) ** 2).mean()

    gradient = torch.func.grad(loss)
    walked, vaulted, stepped, jumped = torch.zeros(4, COLUMNS, dtype=torch.float64)
    walk = KeepStepping([walked], lr=RATE, scale_i=SCALE, max_steps=MOST_STEPS)
    vault = KeepVaulting([vaulted], lr=RATE)
    for _ in range(GRADIENTS):
        walked.grad, vaulted.grad = gradient(walked), gradient(vaulted)
        walk.step(lambda: loss(walked))
        vault.step(lambda: loss(vaulted))
        stepped = keep_stepping(stepped, loss, gradient, RATE, SCALE, MOST_STEPS)
        jumped = keep_vaulting(jumped, loss, gradient, RATE)
    ends = {"KeepStepping": (stepped, walked), "KeepVaulting": (jumped, vaulted)}
    tables = [pd.DataFrame({"method": name, "listing": listing, "library": library})
              for name, (listing, library) in ends.items()]  # fmt: skip
    return pd.concat(tables, ignore_index=True)
