"""Average and schedule in few lines, and the library's beside them.

    sum_t mu_t theta_t = theta_0 - sum_t (rate sum_{s > t} mu_s) g_t

Left the average of iterates, right a side-trip from where they began, at the rates of Table 1.
"""

import numpy as np
import pandas as pd

from replicate.averaging import average_rows, ema, equivalent_schedule, swa, two_point


def average(iterates, mu):
    return sum(weight * theta for weight, theta in zip(mu, iterates, strict=True))


def schedule(rate, mu):
    return [rate * sum(mu[t + 1 :]) for t in range(len(mu) - 1)]


def side_trip(theta, gradients, rates):
    for gradient, rate in zip(gradients, rates, strict=True):
        theta = theta - rate * gradient
    return theta


def run_beside_library() -> pd.DataFrame:
    """Of each kernel the average, the side-trip and the schedule on a noisy quadratic: columns
    kernel, what, listing and library. The library has no side-trip of its own: its average stands
    beside that.
    """
    rate, steps = 0.1, 30
    curvatures = 1 / np.arange(1.0, 11)
    noise = np.random.default_rng(0).normal(size=(steps, 10))
    kernels = {"swa": swa(steps), "two-point": two_point(steps), "ema": ema(steps)}
    thetas, gradients = [np.ones(10)], []
    for step in range(steps):
        gradients.append(curvatures * thetas[-1] + noise[step])
        thetas.append(thetas[-1] - rate * gradients[-1])
    means = average_rows(kernels, thetas)
    tables = []
    for name, mu in kernels.items():
        rates, rate_at = schedule(rate, mu), equivalent_schedule(lambda step: rate, mu, start=0)
        both = {
            "average": (average(thetas, mu), means[name]),
            "side-trip": (side_trip(thetas[0], gradients, rates), means[name]),
            "schedule": (rates, [rate_at(step) for step in range(steps)]),
        }
        tables += [pd.DataFrame({"kernel": name, "what": what, "listing": listing, "library": library})
                   for what, (listing, library) in both.items()]  # fmt: skip
    return pd.concat(tables, ignore_index=True)
