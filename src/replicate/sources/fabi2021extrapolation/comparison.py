"""Plain SGD and everything that is compared with it on images, on the same mini-batches in the same order.

Rates are chosen by seeds that are not used again, on the training images and on a part of them that nobody trains on,
never on the test set. BatchNorm is re-estimated before every evaluation. A run that diverges has the step in `lost`,
and NaN for what it is worth.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from replicate import datasets, models, runs, training
from replicate.averaging import recompute_batch_norm
from replicate.errors import Diverged
from replicate.sources.fabi2021extrapolation.arms import ARMS, Arm
from replicate.sources.fabi2021extrapolation.settings import Settings

MAIN, NORM = 0, 2**31  # streams of mini-batches; nobody trains on the second
COMPARED = ("plain", "s=0.5")  # with batch sizes
CURVES = ("plain", "s=0.5", "rate-1.5")  # over the grid of rates


def networks(settings: Settings) -> pd.DataFrame:
    """Losses and accuracies of every arm along its run, at the source's rate and at chosen ones.

    Columns: regime (source; tuned: the arm's own best rate by training loss, and with it validated: by validation loss;
    plain-best: plain SGD's by training loss), arm, lr, batch, seed, branch (0), step, seconds (of the processor,
    without evaluation), train_loss, valid_loss, test_loss (nats), valid_top1, top1 (fractions), lost (the step at which
    the loss stopped being finite, else NaN).
    """
    table = _searched(settings, settings.searched, (settings.batch,))
    # What is timed by the training loss is tuned by it, and what is compared by accuracy by the validation loss: a rate
    # that another measure has chosen would be compared too.
    best = {regime: _best(table, metric) for regime, metric in (("tuned", "train_loss"), ("validated", "valid_loss"))}
    regimes = pd.DataFrame(_regimes(settings, best), columns=["regime", "arm", "lr"])
    grid = regimes[["arm", "lr"]].drop_duplicates().assign(batch=settings.batch)
    return regimes.merge(_main(settings, grid), on=["arm", "lr"])


def rate_curves(settings: Settings) -> pd.DataFrame:
    """Ends of runs over the whole grid of rates, on the main seeds; columns of `networks` without regime.

    Empty where the settings do not ask for them.
    """
    if not settings.curves:
        return pd.DataFrame()
    grid = pd.DataFrame({"arm": arm, "lr": lr, "batch": settings.batch} for arm in CURVES for lr in settings.rates)
    return _ends(_main(settings, grid))


def batch_sizes(settings: Settings) -> pd.DataFrame:
    """Ends of plain SGD and s = 0.5 at several batch sizes, each at its own best rate; columns of `networks`.

    Empty where the settings name no batch sizes.
    """
    if not settings.batches:
        return pd.DataFrame()
    best = _best(_searched(settings, COMPARED, settings.batches), "train_loss")
    grid = pd.DataFrame({"arm": arm, "lr": lr, "batch": batch} for (arm, batch), lr in best.items())
    return _ends(_main(settings, grid))


def search(settings: Settings) -> pd.DataFrame:
    """The search itself: ends of the tuning seeds' runs for every arm that has one, batch size and rate."""
    arms = [_searched(settings, settings.searched, (settings.batch,))]
    if settings.batches:
        arms.append(_searched(settings, COMPARED, settings.batches))
    return pd.concat(arms, ignore_index=True).drop_duplicates(["arm", "batch", "lr", "seed"])


def main_run(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """All main seeds of one arm at one rate and batch size."""
    return _all(settings, point, settings.seeds, settings.rows, device)


def tuning_run(settings: Settings, point: dict, folder: Path, parents: list[Path], device: str) -> pd.DataFrame:
    """All tuning seeds of one arm at one rate and batch size: the end alone."""
    return _all(settings, point, settings.tuning_seeds, 1, device)


def _main(settings: Settings, grid: pd.DataFrame) -> pd.DataFrame:
    return runs.each(main_run, settings, grid.to_dict("records")).table


def _searched(settings: Settings, arms: Iterable[str], batches: Iterable[int]) -> pd.DataFrame:
    grid = [{"arm": arm, "lr": lr, "batch": batch} for batch in batches for arm in arms for lr in settings.rates]
    return runs.each(tuning_run, settings, grid).table if grid else pd.DataFrame()


def _best(table: pd.DataFrame, metric: str) -> dict[tuple[str, int], float]:
    """(arm, batch) -> the rate with the lowest mean of a loss; a rate at which any seed was lost is out."""
    if table.empty:
        return {}
    means = table.groupby(["arm", "batch", "lr"])[metric].agg(lambda losses: losses.mean(skipna=False))
    return {key: part.idxmin()[2] for key, part in means.dropna().groupby(["arm", "batch"])}


def _regimes(settings: Settings, best: dict) -> Iterator[tuple[str, str, float]]:
    """(regime, arm, rate); an arm without a search of its own has no tuned rate."""
    for arm in settings.arms:
        rates = {"source": settings.lr, "plain-best": best["tuned"].get(("plain", settings.batch))}
        rates |= {regime: found.get((arm, settings.batch)) for regime, found in best.items()}
        asked = {*settings.regimes, *(["validated"] if "tuned" in settings.regimes else [])}
        yield from ((regime, arm, rate) for regime, rate in rates.items() if regime in asked and rate is not None)


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run."""
    return table.groupby(["arm", "lr", "batch", "seed"], sort=False).tail(1).reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class Data:
    """The images of a run: those it trains on as mini-batches, and the three sets it is judged on."""

    batches: datasets.Batches
    train: tuple
    valid: tuple
    test: tuple
    norm: list

    @classmethod
    def load(cls, settings: Settings, batch: int, device: str) -> "Data":
        """The last share `validation` of the training images is held out of training in every run."""
        images = datasets.load(settings.dataset)
        kept = round(len(images.train_x) * (1 - settings.validation))
        data = datasets.Batches(
            images.train_x[:kept], images.train_y[:kept], batch, images.classes, device, settings.pad, settings.flip
        )
        norm = data.resized(min(256, kept))
        some = slice(settings.curve_images)
        return cls(
            data,
            data.plain(images.train_x[:kept][some], images.train_y[:kept][some]),
            data.plain(images.train_x[kept:][some], images.train_y[kept:][some]),
            data.plain(images.test_x, images.test_y),
            [norm.batch(0, NORM, step)[0] for step in range(settings.norm_batches)] if settings.model != "mlp" else [],
        )


def _all(settings: Settings, point: dict, seeds: Iterable[int], count: int, device: str) -> pd.DataFrame:
    """A run a seed, with a row at its start (if there is more than one) and `count` more, evenly spaced to its end."""
    arm, data = ARMS[point["arm"]], Data.load(settings, point["batch"], device)
    steps = settings.steps * arm.length
    marks = [round(steps * i / count) for i in range(int(count == 1), count + 1)]
    rows = []
    for seed in seeds:
        model = network(settings, seed, device)
        path = _segments(model, data.batches, arm, point["lr"], seed, steps, marks)
        rows += [{"seed": seed, "branch": 0} | row for row in _rows(model, path, data, marks, settings)]
    return pd.DataFrame(rows)


def _rows(model, path: Iterator[int], data: Data, marks: list[int], settings: Settings) -> Iterator[dict]:
    """What the model is worth at each mark of its path, and how long it took to come there."""
    seconds, lost = 0.0, math.nan
    for mark in marks:
        if math.isnan(lost):
            start = time.process_time()
            try:
                next(path)
            except Diverged as error:
                lost = float(error.step)
            seconds += time.process_time() - start
        worth = dict.fromkeys(METRICS, math.nan) if lost >= 0 else _worth(model, data, mark == marks[-1], settings)
        yield {"step": mark, "seconds": seconds, "lost": lost} | worth


METRICS = ("train_loss", "valid_loss", "valid_top1", "test_loss", "top1")


def _segments(model, data, arm: Arm, lr: float, seed: int, steps: int, marks: list[int]) -> Iterator[int]:
    """Train to each mark in turn; the optimizer is made anew where the arm begins late."""
    begin = round(arm.begin * steps)
    optimizer = arm.optimizer(model.parameters(), lr, 0, steps)
    if 0 in marks:
        yield 0
    places = sorted({*marks, begin} - {0})
    for start, stop in zip((0, *places), places, strict=False):
        if start == begin and begin:
            optimizer = arm.optimizer(model.parameters(), lr, start, steps)
        for _ in training.steps(
            model, data, optimizer, lambda step: arm.rate(lr, step, steps), seed, MAIN, start, stop
        ):
            pass
        if stop in marks:
            yield stop


def _worth(model, data: Data, whole: bool, settings: Settings) -> dict[str, float]:
    """Losses and accuracies now; the test set as a whole only at the end of a run."""
    recompute_batch_norm(model, data.norm)
    train_loss, _ = training.evaluate(model, *data.train)
    valid_loss, valid_top1 = training.evaluate(model, *data.valid)
    part = slice(None if whole else settings.curve_images)
    test_loss, top1 = training.evaluate(model, *(one[part] for one in data.test))
    return dict(zip(METRICS, (train_loss, valid_loss, valid_top1, test_loss, top1), strict=True))


def network(settings: Settings, seed: int, device: str):
    """The network of a data set at the weights of a seed."""
    half = settings.precision == "bfloat16" and runs.gains_by_bfloat16(device)
    images = datasets.load(settings.dataset)
    match settings.model:
        case "mlp":
            widths = (settings.width, settings.width)
            return models.mlp(images.train_x[0].size, widths, images.classes, seed).to(device)
        case "resnet8":
            return models.resnet8(images.classes, seed, settings.width, settings.stem, half).to(device)
        case "resnet18":
            return models.resnet18(images.classes, seed, settings.stem, half).to(device)
