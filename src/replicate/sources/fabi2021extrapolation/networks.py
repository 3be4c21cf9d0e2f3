"""The comparison that the draft promises: every arm at the source's rate and at chosen ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation._arms import ARMS
from replicate.sources.fabi2021extrapolation.settings import Settings
from replicate.sources.protocol import Evidence, experiment

CHOSEN_BY = {"tuned": "train_loss", "validated": "valid_loss"}
# What is timed by the training loss is tuned by it, and what is compared by accuracy by the
# validation loss: a rate that another measure has chosen would be compared too.
REGIMES = (
    "source",
    "plain-best",
    *(f"{regime}{move}" for regime in CHOSEN_BY for move in ("", " lower", " higher")),
)
TARGET = 0.75  # of plain SGD's steps: where it has the loss that all arms are timed to


def operations(settings: Settings) -> float:
    """Of every arm at every rate that it has. No evaluation."""
    lengths = sum(ARMS[arm].length for arm, _ in _networks.plan_of(settings))
    images = lengths * len(settings.seeds) * settings.steps * settings.batch
    return images * _networks.operations_per_step(settings)


def in_regimes(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each regime, columns regime and at_edge added; a run can be in several.

    table: what `networks` gives, on one data set or several. source: the source's rate. tuned, validated: the
    rate that the other seeds choose for the arm by training or validation loss, and with " lower"
    or " higher" its neighbour on the grid; plain-best: the one chosen for plain SGD by training
    loss. at_edge: 1 where the chosen rate is the first or last of the grid.
    """
    if table.empty:
        return table
    if "dataset" in table and table.dataset.nunique() > 1:
        tables = [in_regimes(rows) for _, rows in table.groupby("dataset", sort=False)]
        return pd.concat(tables, ignore_index=True)
    tables = [table[table.source].assign(regime="source", at_edge=0)]
    grid = table[table.searched]
    if grid.empty:
        return tables[0]
    last = _networks.ends(grid)
    for regime, metric in CHOSEN_BY.items():
        chosen = _networks.choose_rates(last, metric)
        chosen["regime"] = [f"{regime} {move}".strip() for move in chosen.pop("move")]
        tables.append(grid.merge(chosen, on=["arm", "seed", "lr"]))
        if regime == "tuned":
            plain = chosen[(chosen.arm == "plain") & (chosen.regime == "tuned")]
            best = plain.drop(columns="arm").assign(regime="plain-best")
            tables.append(grid.merge(best, on=["seed", "lr"]))
    return pd.concat(tables, ignore_index=True)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """One row per regime, arm and seed: the end of the run, its times to the loss that plain SGD has
    at TARGET of its steps.

    A neighbour of a chosen rate is timed to the target of the chosen one.
    """
    by_run = in_regimes(table).groupby(["regime", "seed", "branch", "arm"], sort=False)
    runs = {key: run.sort_values("step") for key, run in by_run}
    rows = []
    for (regime, *unit, arm), run in runs.items():
        plain = runs.get((regime.split(" ")[0], *unit, "plain"))
        target = np.nan if plain is None else _target(plain)
        rows.append({
            "regime": regime, **dict(zip(("seed", "branch"), unit, strict=True)), "arm": arm,
            "top1": run.top1.iloc[-1], "train_loss": run.train_loss.iloc[-1],
            "log_loss": np.log10(run.train_loss.iloc[-1]),
            "steps": run.step.max(), "steps_to_target": _time(run, target, "step"),
            "seconds": run.seconds.max(), "seconds_to_target": _time(run, target, "seconds"),
            "at_edge": run.at_edge.iloc[0],
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
    fields={"regime": REGIMES, "arm": tuple(ARMS)},
    metrics=(
        "top1",
        "train_loss",
        "log_loss",
        "steps",
        "steps_to_target",
        "seconds",
        "seconds_to_target",
    ),
    datasets=_networks.IMAGE_ENTRIES,
    needs_data=True,
    clocked={"seconds": None},
    operations=operations,
    derive=derive,
    evidence={"cifar10": Evidence(69, "extrapolation and its controls, ResNet-18")},
    night={"imagewoof-64": Evidence(75, "the figure that the post promised, and its controls")},
    whole=True,
)
def networks(settings: Settings) -> pd.DataFrame:
    """Losses and accuracies of every arm along its run, at the source's rate and over the grid.

    Columns: arm, lr, batch, seed, branch (0), step, seconds (of the processor, without evaluation;
    all runs of a seed in turn in one process), train_loss, valid_loss, test_loss (nats),
    valid_top1, top1 (fractions), lost (the step at which the loss stopped being finite, else NaN),
    source (whether the rate is the source's), searched (whether it is on the grid of an arm with a
    search of its own).
    """
    return _networks.run_seeds(settings)
