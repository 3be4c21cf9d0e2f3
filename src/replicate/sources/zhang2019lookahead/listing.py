"""Algorithm 1 in few lines, and the library's optimizer beside it.

phi <- phi + alpha (theta - phi),  theta <- phi,    every k steps of the fast weights theta
"""

import numpy as np
import pandas as pd

RATE, K, ALPHA = 0.5, 5, 0.5  # k and alpha: the slides'
STEPS = 23  # four cycles and three steps of a fifth, where slow and fast weights differ
DIMENSIONS = 10


def lookahead(theta, gradient, rate, k, alpha, steps):
    slow = fast = theta
    for step in range(steps):
        fast = fast - rate * gradient(fast, step)
        if (step + 1) % k == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow
    return slow, fast


def run_beside_library() -> pd.DataFrame:
    """Slow and fast weights of both at the end of a noisy quadratic: columns weights, listing and
    library.
    """
    import torch

    from replicate.optim import Lookahead

    curvatures = 1 / torch.arange(1.0, DIMENSIONS + 1, dtype=torch.float64)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(STEPS, DIMENSIONS)))

    def gradient(theta, step):
        return curvatures * theta + noise[step]

    theta = torch.ones(DIMENSIONS, dtype=torch.float64)
    slow, fast = lookahead(theta.clone(), gradient, RATE, K, ALPHA, STEPS)
    optimizer = Lookahead(torch.optim.SGD([theta], lr=RATE), k=K, alpha=ALPHA)
    for step in range(STEPS):
        theta.grad = gradient(theta, step)
        optimizer.step()
    tables = [pd.DataFrame({"weights": "fast", "listing": fast, "library": theta.clone()})]
    with optimizer.slow_weights():
        tables.append(pd.DataFrame({"weights": "slow", "listing": slow, "library": theta.clone()}))
    return pd.concat(tables, ignore_index=True)
