"""Algorithm 1 in few lines, and the library's optimizer beside it.

phi <- phi + alpha (theta - phi),  theta <- phi,    every k steps of the fast weights theta
"""

import numpy as np
import pandas as pd

from replicate.optim import SGD, Lookahead, run_on_array


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
    rate, k, alpha = 0.5, 5, 0.5  # k and alpha: the slides'
    steps = 23  # four cycles and three steps of a fifth, where slow and fast weights differ
    curvatures = 1 / np.arange(1.0, 11)
    noise = np.random.default_rng(0).normal(size=(steps, 10))

    def gradient(theta, step):
        return curvatures * theta + noise[step]

    slow, fast = lookahead(np.ones(10), gradient, rate, k, alpha, steps)
    theta = np.ones(10)
    optimizer = run_on_array(
        lambda params: Lookahead(SGD(params, lr=rate), k=k, alpha=alpha), theta, gradient, steps
    )
    tables = [pd.DataFrame({"weights": "fast", "listing": fast, "library": theta.copy()})]
    with optimizer.slow_weights():
        tables.append(pd.DataFrame({"weights": "slow", "listing": slow, "library": theta.copy()}))
    return pd.concat(tables, ignore_index=True)
