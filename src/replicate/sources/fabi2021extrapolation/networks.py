"""The comparison that the draft promises: every arm at the source's rate and at chosen ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation._arms import ARMS
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import Evidence, experiment

TARGET = 0.75  # of plain SGD's steps: where it has the loss that all arms are timed to


def operations(settings: Settings) -> float:
    """Of each arm in each regime, at most: arms whose rates agree share a run. No evaluation."""
    lengths = sum(ARMS[arm].length for arm in settings.arms) * len(settings.regimes)
    images = lengths * len(settings.seeds) * settings.steps * settings.batch
    return images * _networks.operations_per_step(settings)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per regime, arm and seed: the end of the run, its times to plain SGD's loss at
    TARGET.
    """
    by_run = table.groupby(["regime", "seed", "branch", "arm"], sort=False)
    runs = {key: run.sort_values("step") for key, run in by_run}
    rows = []
    for (*unit, arm), run in runs.items():
        plain = runs.get((*unit, "plain"))
        target = np.nan if plain is None else _target(plain)
        rows.append({
            **dict(zip(("regime", "seed", "branch"), unit, strict=True)), "arm": arm,
            "top1": run.top1.iloc[-1], "train_loss": run.train_loss.iloc[-1],
            "steps": run.step.max(), "steps_to_target": _time(run, target, "step"),
            "seconds": run.seconds.max(), "seconds_to_target": _time(run, target, "seconds"),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _target(plain: pd.DataFrame) -> float:
    return plain.train_loss[plain.step <= TARGET * plain.step.max()].iloc[-1]


def _time(run: pd.DataFrame, target: float, clock: str) -> float:
    """When the training loss first is at the target, its logarithm interpolated; NaN if it never
    is.
    """
    loss = np.log(run.train_loss.to_numpy())
    times = run[clock].to_numpy(dtype=float)
    reached = np.flatnonzero(loss <= np.log(target))
    if not len(reached):
        return np.nan
    i = reached[0]
    if i == 0:
        return times[0]
    share = (loss[i - 1] - np.log(target)) / (loss[i - 1] - loss[i])
    return times[i - 1] + share * (times[i] - times[i - 1])


@experiment(
    fields={"regime": ("source", "tuned", "validated", "plain-best"), "arm": tuple(ARMS)},
    metrics=("top1", "train_loss", "steps", "steps_to_target", "seconds", "seconds_to_target"),
    datasets=_networks.IMAGE_ENTRIES,
    needs_data=True,
    clocked={"seconds": None},
    operations=operations,
    derive=derive,
    evidence={"cifar10": Evidence(69, "extrapolation and its controls, ResNet-18")},
)
def networks(settings: Settings) -> pd.DataFrame:
    """Losses and accuracies of every arm along its run, at the source's rate and at chosen ones.

    Columns: regime (source; tuned: the arm's best rate by training loss, and with it validated: by
    validation loss; plain-best: plain SGD's by training loss), arm, lr, batch, seed, branch (0),
    step, seconds (of the processor, without evaluation), train_loss, valid_loss, test_loss (nats),
    valid_top1, top1 (fractions), lost (the step at which the loss stopped being finite, else NaN).
    """
    table = _networks.search_rates(settings, settings.searched, (settings.batch,))
    # What is timed by the training loss is tuned by it, and what is compared by accuracy by the
    # validation loss: a rate that another measure has chosen would be compared too.
    by_metric = (("tuned", "train_loss"), ("validated", "valid_loss"))
    best = {regime: _networks.choose_rates(table, metric) for regime, metric in by_metric}
    regimes = pd.DataFrame(_regimes(settings, best), columns=["regime", "arm", "lr"])
    grid = regimes[["arm", "lr"]].drop_duplicates().assign(batch=settings.batch)
    return regimes.merge(_networks.main_runs(settings, grid), on=["arm", "lr"])


def _regimes(settings: Settings, best: dict) -> Iterator[tuple[str, str, float]]:
    """(regime, arm, rate); an arm without a search of its own has no tuned rate."""
    wanted = {*settings.regimes, *(["validated"] if "tuned" in settings.regimes else [])}
    for arm in settings.arms:
        rates = {"source": settings.lr, "plain-best": best["tuned"].get(("plain", settings.batch))}
        rates |= {regime: chosen.get((arm, settings.batch)) for regime, chosen in best.items()}
        rates = {
            regime: rate for regime, rate in rates.items() if regime in wanted and rate is not None
        }
        yield from ((regime, arm, rate) for regime, rate in rates.items())
