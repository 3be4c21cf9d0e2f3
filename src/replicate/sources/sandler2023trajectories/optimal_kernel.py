"""Beyond the source: the kernel with the least loss that a measured spectrum foretells, against Table
1's kernels over the same window.

    mu* = argmin over sum_j mu_j = 1 of  1/2 sum_i kappa_i E (sum_j mu_j y_{t+j,i})^2

y_i: the path along direction i, heavy ball with the curvature kappa_i and the noise c_i that are
measured once, at the average of the last window. The kernel is then tried on continuations that
nobody has seen: nothing is fitted to a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, curvature, problems, training
from replicate.sources import images as kit
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches, _hessian, _trips
from replicate.sources.sandler2023trajectories.settings import Settings

CONTINUATIONS = 4  # ours; each on mini-batches of its own
KERNEL_WINDOWS = (10, 30, 100, 300)  # ours; longer ones leave Table 1's kernels little to lose
TRIED_STREAM = 200  # streams of mini-batches from here on, one a continuation
GRADIENTS_STREAM = TRIED_STREAM - 1  # of the gradients whose variance is the noise
ARMS = ("best", "uniform", "linear", "exponential", "raw")


def rise(k: int) -> np.ndarray:
    """mu_j = 2 j / (k (k + 1)): weights that rise in a straight line, (k + 1,)."""
    return 2 * np.arange(k + 1) / (k * (k + 1))


USUAL_KERNELS: dict[str, Callable[[int], np.ndarray]] = {
    "uniform": averaging.swa,
    "linear": rise,
    "exponential": averaging.ema,
}


def list_windows(settings: Settings) -> list[int]:
    """The windows that the main run has at least once."""
    return [k for k in KERNEL_WINDOWS if k <= settings.longest]


def operations(settings: Settings) -> float:
    """Multiplications and additions of Hessian products, gradients, continuations and evaluations."""
    if not settings.directions:
        return 0.0
    windows = list_windows(settings)
    products = settings.directions * settings.hessian_images * _trips.PRODUCT_COST
    steps = products / settings.batch + settings.noise_gradients + CONTINUATIONS * max(windows)
    rows = CONTINUATIONS * len(ARMS) * len(windows)
    each = _branches.count_training(settings, steps) + _branches.count_evaluation(settings, rows)
    return _trips.count_seeds(settings) * each


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged: the mean over continuations."""
    places = [name for name in table if name not in ("continuation", "train_loss", "predicted")]
    return table.groupby(places, as_index=False, sort=False)[["train_loss", "predicted"]].mean()


def fit_gains(contrast, table: pd.DataFrame) -> Iterator[tuple[dict, pd.Series]]:
    """Cov(p, m) / Var(p) over windows, of each seed: how far what a kernel gains over another one goes
    with what is predicted.

    p: predicted loss of arm 1 of the contrast less that of arm 0; m: the same, measured.
    """
    first, second = (arm["arm"] for arm in contrast.arms)
    for dataset, rows in table.groupby("dataset", sort=False):
        wide = rows.pivot_table(index=["seed", "k"], columns="arm", values=["predicted", "train_loss"])  # fmt: skip
        gained = {name: wide[name][second] - wide[name][first] for name in ("predicted", "train_loss")}  # fmt: skip
        p = gained["predicted"] - gained["predicted"].groupby("seed").transform("mean")
        products, squares = p * gained["train_loss"], p**2
        slopes = products.groupby("seed").sum() / squares.groupby("seed").sum()
        units = pd.MultiIndex.from_product([slopes.index, [0]], names=["seed", "branch"])
        yield {"dataset": dataset}, pd.Series(slopes.to_numpy(), index=units)


@experiment(
    fields={"arm": ARMS, "k": lambda settings: set(list_windows(settings))},
    metrics=("train_loss", "predicted"),
    datasets=("digits", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    derive=derive,
    whole=True,
    units=_trips.count_seeds,
    night={"cifar10-1000": Evidence(35, "the best kernel for a measured spectrum")},
    measures={"slope of gains": fit_gains},
)
def optimal_kernel(settings: Settings) -> pd.DataFrame:
    """Losses of averages over windows of CONTINUATIONS runs from the last branch point.

    Columns: seed, continuation, k (steps of the window), arm, train_loss (nats), predicted (nats above
    the minimum). Arms: best (the kernel of the least predicted loss), uniform (SWA), linear (rising
    weights), exponential (EMA, delta = 5/k), raw (the window's end). Empty without `directions`.
    """
    if not settings.directions:
        return pd.DataFrame()
    return _trips.run_each(try_kernels, settings, after=_trips.run_main(settings)).table


def try_kernels(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed: measure the spectrum, find the kernels, try all of them."""
    main, start, ends = _trips.load_last_branch(settings, point["seed"], parents, device)
    middle = ends[f"swa k={max(settings.swa)}"].to(device).float()
    measured = _measure(main, middle)
    kernels = list_kernels(settings, measured)
    origin, metrics = training.flat_weights(start.model), main.evaluator()
    rows = []
    for i in range(CONTINUATIONS):
        named = {_label(*cell): mu for cell, mu in kernels.items()}
        averages = averaging.KernelAverages(named, origin)
        training.branch(start, main.data, main.rate, main.seed, TRIED_STREAM + i,
                        start.step + max(list_windows(settings)), averages=(averages,))  # fmt: skip
        for (arm, k), mu in kernels.items():
            loss = metrics(averages[_label(arm, k)].to(device))["train_loss"]
            predicted = predict(settings, measured, mu)
            rows.append({"continuation": i, "k": k, "arm": arm, "train_loss": loss, "predicted": predicted})  # fmt: skip
    return pd.DataFrame(rows)


def list_kernels(
    settings: Settings, measured: tuple[np.ndarray, np.ndarray]
) -> dict[tuple[str, int], np.ndarray]:
    """(arm, k) -> weights, (k + 1,)."""
    kernels = {}
    for k in list_windows(settings):
        best = problems.least_loss_kernel(*measured, settings.lr, settings.momentum, k)
        kernels["best", k] = best
        kernels |= {(arm, k): kernel(k) for arm, kernel in USUAL_KERNELS.items()}
        kernels["raw", k] = problems.weigh_last(k)
    return kernels


def predict(settings: Settings, measured: tuple[np.ndarray, np.ndarray], mu: np.ndarray) -> float:
    """Nats above the minimum of an average over a settled path."""
    kappa, c = measured
    moments = problems.stationary_moments(kappa, c, settings.lr, settings.momentum)
    rates = np.full(len(mu) - 1, settings.lr)
    losses = problems.predict_loss(kappa, c, rates, settings.momentum, mu, moments)
    return float(losses.sum())


def _measure(main: _branches.Main, weights) -> tuple[np.ndarray, np.ndarray]:
    """kappa and c, (m,) each, of the directions in which the run settles."""
    settings = main.settings
    directions = _hessian.find_directions(main, weights, settings.directions)
    model = kit.network(settings, 0, main.images, main.device)
    gradients = (
        training.Surface(model, [main.data.batch(main.seed, GRADIENTS_STREAM, step)]).gradient(
            weights
        )
        for step in range(settings.noise_gradients)
    )
    noise = curvature.measure_noise(gradients, directions.vectors)
    edge = 2 * (1 + settings.momentum) / settings.lr
    settles = (directions.values > 0) & (directions.values < edge)
    return directions.values[settles], noise.variances[settles]


def _label(arm: str, k: int) -> str:
    return f"{arm} k={k}"
