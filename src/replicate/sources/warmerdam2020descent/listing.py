"""KeepStepping and KeepVaulting in few lines, as they were meant, and the library's beside them.

Mini-step i of a walk along one gradient is lr (1 + scale sqrt(i)) long; a vault jumps to the lowest
point of the parabola through L(w), its slope -|g|^2 along -g, and L(w - lr g).
"""

import numpy as np
import pandas as pd

from replicate.optim import KeepStepping, KeepVaulting, run_on_array


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
    lr, scale, most_steps, gradients = 0.02, 2.0, 50, 5
    x = np.random.default_rng(0).normal(size=(200, 20))

    def loss(w):
        return ((x @ (w - 1)) ** 2).mean()

    def gradient(w):
        return 2 * x.T @ (x @ (w - 1)) / len(x)

    makers = {
        "KeepStepping": lambda w: KeepStepping(w, lr=lr, scale_i=scale, max_steps=most_steps),
        "KeepVaulting": lambda w: KeepVaulting(w, lr=lr),
    }
    ends = {name: [np.zeros(20), np.zeros(20)] for name in makers}
    for name, make in makers.items():
        run_on_array(make, ends[name][1], lambda w, step: gradient(w), gradients, loss)
    walk, vault = ends.values()
    for _ in range(gradients):
        walk[0] = keep_stepping(walk[0], loss, gradient, lr, scale, most_steps)
        vault[0] = keep_vaulting(vault[0], loss, gradient, lr)
    tables = [pd.DataFrame({"method": name, "listing": listing, "library": library})
              for name, (listing, library) in ends.items()]  # fmt: skip
    return pd.concat(tables, ignore_index=True)
