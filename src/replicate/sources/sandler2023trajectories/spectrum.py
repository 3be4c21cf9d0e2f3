"""Beyond the source: what an average and its side-trip leave, predicted from curvature and noise.

    kappa_i, u_i   the Hessian's largest eigenvalues and their directions, at an average (Lanczos)
    c_i            variance of u_i . g over mini-batches there
    1/2 sum_i kappa_i E y_i^2   what an end has above the minimum, by `replicate.problems.ends`

No constant is fitted. The paper leaves open when averages and schedules agree (sections 4 and 7):
along directions whose time 1/(lambda kappa) is long beside the window gradients are as good as
frozen and both agree, along the others the average keeps less noise than the side-trip.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from replicate import averaging, curvature, problems, runs, training
from replicate.sources import images as kit
from replicate.sources.images import DRAWS, MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories._branches import kernel, windows
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.streams import rng

NOISE = DRAWS + 1  # stream of the mini-batches whose gradients give the noise; nobody trains on it
FORWARD_IMAGES = (
    512  # images of one forward pass of the Hessian's loss, which BatchNorm normalises together
)
ENDS = ("predicted raw", "predicted average", "predicted side-trip")
CONTROLS = ("average without momentum", "side-trip without momentum")
PRODUCT = 3  # gradients' work in a double backward pass, about
CONVERGED = (
    0.01  # residual of a direction over the largest curvature, up to which it is an eigenvector
)
OF_DIRECTIONS = ["direction", "curvature", "residual", "noise", "variance", "predicted"]
OF_ENDS = ["arm", "kernel", "k", "train_loss"]


def operations(settings: Settings) -> float:
    """Multiplications and additions of Hessian products, noise and the path along the directions."""
    _, training_step = kit.operations_per_image(settings, settings.dataset)
    images = PRODUCT * settings.directions * settings.hessian_images
    images += (settings.noise_gradients + settings.longest) * settings.batch
    return len(settings.seeds) * images * training_step if settings.directions else 0.0


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are judged: predicted losses by arm, and of each seed the median ratio of
    measured and predicted variance.
    """
    ends = table[table.what == "end"]
    largest = table.groupby(["dataset", "seed"]).curvature.transform("max")
    settled = table[(table.residual <= CONVERGED * largest) & table.predicted.notna()]
    ratio = (settled.variance / settled.predicted).groupby([settled.dataset, settled.seed]).median()
    ratios = ratio.rename("variance_ratio").reset_index().assign(arm="directions")
    return pd.concat([ends, ratios], ignore_index=True).assign(branch=0)


def fit_slope(contrast, table: pd.DataFrame) -> Iterator[tuple[dict, pd.Series]]:
    """Cov(p, m) / Var(p) over kernels and windows, of each seed: how far what is measured goes with
    what is predicted.

    p: arms 1 and 2 of the contrast, one minus the other; m: arms 3 and 4, the mean over branches; all in training loss.
    A line through the origin would not tell windows apart, as nearly all differences are positive.
    """
    names = [arm["arm"] for arm in contrast.arms]
    for dataset, rows in table.groupby("dataset", sort=False):
        cells = rows.groupby(["seed", "kernel", "k", "arm"]).train_loss.mean().unstack("arm")
        if set(names) <= set(cells):
            a, b, c, d = (cells[name] for name in names)
            pairs = pd.DataFrame({"p": a - b, "m": c - d}).dropna()
            centred = pairs - pairs.groupby("seed").transform("mean")
            slopes = (centred.p * centred.m).groupby("seed").sum() / (centred.p**2).groupby(
                "seed"
            ).sum()
            units = pd.MultiIndex.from_product([slopes.index, [0]], names=["seed", "branch"])
            yield {"dataset": dataset}, pd.Series(slopes.to_numpy(), index=units)


@experiment(
    fields={
        "arm": (*ENDS, *CONTROLS, "directions"),
        "kernel": ("two-point", "swa", "ema"),
        "k": lambda settings: {k for _, k in windows(settings)},
    },
    metrics=("train_loss", "variance_ratio"),
    datasets=("digits", "cifar10", "cifar10-1000", "cifar100"),
    needs_data=True,
    operations=operations,
    derive=derive,
    night={
        "cifar10-1000": Evidence(
            82, "the average's gain from curvature and noise, before it is seen"
        )
    },
    measures={"slope on the prediction": fit_slope},
)
def spectrum(settings: Settings) -> pd.DataFrame:
    """Curvature and noise by direction, and from them the loss at every end of Figure 5.

    Columns: seed, what ("direction": a row of the spectrum; "end": a prediction), arm, kernel, k,
    direction (its place, the largest curvature first), curvature, residual
    (of the eigenvector), noise, variance (of the main run
    along it over the longest window), predicted (the same from theory; NaN where the direction does
    not settle), train_loss (nats above the minimum, of an end). Empty without `directions`.
    """
    if not settings.directions:
        return pd.DataFrame()
    main = runs.each(_branches.main_run, settings, [{"seed": s} for s in settings.seeds])
    grid = [{"seed": seed} for seed in settings.seeds]
    return runs.each(measure_spectrum, settings, grid, after=main).table


def measure_spectrum(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """One seed: the spectrum at the average over the longest window after the first branch point."""
    main = _branches.Main.load(settings, point["seed"], device)
    start = main.resume(parents[0] / "branch-0.ckpt")
    ends, _ = training.load_tensor_file(parents[0] / "branch-0-ends.ckpt")
    minimum = ends[f"swa k={max(settings.swa)}"].to(device).float()
    directions = _find_directions(main, minimum)
    noise = _measure_noise(main, minimum, directions)
    path = curvature.Projection(directions.vectors, minimum)
    stop = start.step + settings.longest
    training.branch(start, main.data, main.rate, main.seed, MAIN, stop, averages=(path,))
    rows = _describe_directions(settings, directions, noise, path.path).assign(what="direction")
    ends = pd.DataFrame(_predict_ends(settings, directions, noise), columns=OF_ENDS)
    return pd.concat([rows, ends.assign(what="end")], ignore_index=True)


def _find_directions(main: _branches.Main, minimum) -> curvature.Spectrum:
    settings = main.settings
    images, labels = main.data.draws(0, DRAWS, settings.hessian_images)
    batches = list(zip(images.split(FORWARD_IMAGES), labels.split(FORWARD_IMAGES), strict=True))
    surface = training.Surface(kit.network(settings, 0, main.images, main.device), batches)
    product = partial(surface.product, minimum)
    first = rng(main.seed, "init", 0, NOISE).standard_normal(len(minimum))
    return curvature.lanczos(product, minimum.new_tensor(first), settings.directions)


def _measure_noise(main: _branches.Main, minimum, directions: curvature.Spectrum):
    settings = main.settings
    model = kit.network(settings, 0, main.images, main.device)
    gradients = (
        training.Surface(model, [main.data.batch(main.seed, NOISE, step)]).gradient(minimum)
        for step in range(settings.noise_gradients)
    )
    return curvature.measure_noise(gradients, directions.vectors)


def _settles(settings: Settings, directions: curvature.Spectrum) -> np.ndarray:
    """Directions in which the loss is convex and a constant rate stays near the minimum, (m,).

    Among them are Ritz vectors that have not converged: along these the value is the curvature
    all the same.
    """
    edge = 2 * (1 + settings.momentum) / settings.lr
    return (directions.values > 0) & (directions.values < edge)


def _describe_directions(
    settings: Settings, directions: curvature.Spectrum, noise, path: np.ndarray
) -> pd.DataFrame:
    """Variance along the main run, (steps, m), and what theory says of it over a window as long."""
    settles = _settles(settings, directions)
    kappa, c = directions.values[settles], noise.variances[settles]
    moments = problems.stationary_moments(kappa, c, settings.lr, settings.momentum)
    k = len(path)
    mean = problems.responses(kappa, np.full(k, settings.lr), settings.momentum, averaging.swa(k))
    predicted = np.full(len(directions), np.nan)
    predicted[settles] = moments[:, 0, 0] - mean.second_moment(c, moments)
    columns = (
        range(len(directions)),
        directions.values,
        directions.residuals,
        noise.variances,
        path.var(0),
        predicted,
    )
    return pd.DataFrame(dict(zip(OF_DIRECTIONS, columns, strict=True)))


def _predict_ends(settings: Settings, directions: curvature.Spectrum, noise) -> Iterator[tuple]:
    """(arm, kernel, k, nats above the minimum) of every end; the controls have the rate that momentum
    amounts to, and no momentum.
    """
    settles = _settles(settings, directions)
    kappa, c = directions.values[settles], noise.variances[settles]
    beta, lr = settings.momentum, settings.lr
    yield ENDS[0], "", np.nan, _predict(kappa, c, lr, beta, problems.weigh_last(1), trip=False)
    for name, k in windows(settings):
        mu = kernel(name, k)
        for arm, control, trip in zip(ENDS[1:], CONTROLS, (False, True), strict=True):
            yield arm, name, k, _predict(kappa, c, lr, beta, mu, trip)
            yield control, name, k, _predict(kappa, c, lr / (1 - beta), 0.0, mu, trip)


def _predict(
    kappa: np.ndarray, c: np.ndarray, lr: float, beta: float, mu: np.ndarray, trip: bool
) -> float:
    """Nats above the minimum of an average, or of its side-trip; NaN where a direction has no
    stationary state.
    """
    if not (kappa < 2 * (1 + beta) / lr).all():
        return np.nan
    moments = problems.stationary_moments(kappa, c, lr, beta)
    k = len(mu) - 1
    rates = lr * averaging.kernel_weights(mu) if trip else np.full(k, lr)
    weights = problems.weigh_last(k) if trip else mu
    return float(problems.predict_loss(kappa, c, rates, beta, weights, moments).sum())
