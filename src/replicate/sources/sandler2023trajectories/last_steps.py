"""Table 1's caption: how early before a common end the side-trip of an EMA has to set in."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd

from replicate import averaging, runs, training
from replicate.progress import pieces
from replicate.sources.images import MAIN
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.sandler2023trajectories import _branches
from replicate.sources.sandler2023trajectories.figure_5 import METRICS
from replicate.sources.sandler2023trajectories.settings import Settings

ARMS = ("raw", "average", "side-trip", "longest side-trip", "shortest side-trip")


def operations(settings: Settings) -> float:
    """Multiplications and additions of the side-trips before the common end; the main runs are
    those of `figure_5`.
    """
    if not settings.last_windows:
        return 0.0
    rows = 2 + len(settings.last_windows)
    per_branch = _branches.count_training(
        settings, sum(settings.last_windows)
    ) + _branches.count_evaluation(settings, rows)
    return len(settings.seeds) * settings.branches * per_branch


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged: the longest and the shortest side-trip once more, for every window
    to be held against.
    """
    trips = table[table.arm == "side-trip"]
    ends = {"longest side-trip": trips.k.max(), "shortest side-trip": trips.k.min()}
    named = [trips[trips.k == k].assign(arm=arm, k=float("nan")) for arm, k in ends.items()]
    before = trips[trips.k < trips.k.max()]
    others = table[table.arm != "side-trip"].assign(k=float("nan"))
    return pd.concat([before, others, *named], ignore_index=True)


@experiment(
    fields={"arm": ARMS, "k": lambda settings: settings.last_windows},
    metrics=METRICS[:4],
    datasets=("digits", "cifar10", "cifar10-1000"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={"cifar10": Evidence(78, "Table 1's caption, ResNet-18")},
    night={"cifar10-1000": Evidence(76, "Table 1's caption, ResNet-8")},
)
def last_steps(settings: Settings) -> pd.DataFrame:
    """Ends of EMA side-trips that set in k steps before one common end (Table 1's caption).

    Columns: seed, branch, k, arm (raw, average, side-trip), and the losses and accuracies of
    `figure_5`. Without `last_windows` the table is empty.
    """
    if not settings.last_windows:
        return pd.DataFrame()
    main = runs.each(_branches.main_run, settings, [{"seed": s} for s in settings.seeds])
    grid = [{"seed": s, "branch": b} for s in settings.seeds for b in range(settings.branches)]
    return runs.each(run_late_trips, settings, grid, after=main).table


def run_late_trips(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """EMA side-trips from several points before one end, which all of them share with the average."""
    main, branch = _branches.Main.load(settings, point["seed"], device), point["branch"]
    ends, _ = training.load_tensor_file(parents[0] / f"branch-{branch}-ends.ckpt")
    metrics, longest = main.evaluator(), settings.longest

    def end_of(k: int):
        name = f"branch-{branch}-last-{k}.ckpt" if k < longest else f"branch-{branch}.ckpt"
        start = main.resume(parents[0] / name)
        rate = averaging.equivalent_schedule(
            main.rate, averaging.ema(k, settings.last_delta), start.step
        )
        return training.flat_weights(
            training.branch(start, main.data, rate, main.seed, MAIN, start.step + k).model
        )

    plan = [
        ("raw", 0, lambda: ends[f"raw k={longest}"]),
        ("average", longest, lambda: ends["last"]),
    ]
    plan += [("side-trip", k, partial(end_of, k)) for k in settings.last_windows]
    rows = runs.kept_rows(folder)
    for arm, k, weights_of in pieces(plan[len(rows) :], lambda: runs.keep_rows(folder, rows)):
        rows.append({"k": k, "arm": arm, **metrics(weights_of().to(device))})
    return pd.DataFrame(rows)
