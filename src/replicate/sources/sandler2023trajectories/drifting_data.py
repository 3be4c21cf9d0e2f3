"""Section 5.1 on a network: an average at a large constant rate against smaller rates, where data
stay the same and where they drift.

    e_t = e_{t-1} + (theta_t - e_{t-1}) / 450,   theta at rate lambda     against     theta at 0.4 lambda

The rates are 0.05 and 0.02 in Figure 9, and 450 steps its average's time. "if the new data is
constantly arriving and the model needs to be trained continuously": here the images turn while the
network learns, and what counts is the loss on the images as they stand at that step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from replicate import training
from replicate.sources import images as kit
from replicate.sources.images import DRAWS, MAIN
from replicate.sources.protocol import experiment
from replicate.sources.sandler2023trajectories import _branches, _trips
from replicate.sources.sandler2023trajectories._turning import Turning
from replicate.sources.sandler2023trajectories.settings import Settings
from replicate.training import schedules

DRIFTS = {"none": 0.0, "slow": 90.0, "fast": 360.0}  # ours: degrees that the images turn by in all
FACTORS = {"large rate": 1.0, "small rate": 0.4, "smallest rate": 0.1}  # the first two: Fig. 9
AVERAGE_OF = {"large rate": "average", "small rate": "average at the small rate"}
ARMS = (*FACTORS, *AVERAGE_OF.values())
AVERAGING_STEPS = 450  # section 5.1
LOOKS_OF_RUN = 30  # ours


def length(settings: Settings) -> int:
    """Steps of a run: half as many as before the first branch point."""
    return settings.first_branch // 2


def stops(settings: Settings) -> list[int]:
    """The steps after which a run is looked at, all of them where it has no more."""
    steps = length(settings)
    return sorted(
        {max(1, round(steps * look / LOOKS_OF_RUN)) for look in range(1, LOOKS_OF_RUN + 1)}
    )


def operations(settings: Settings) -> float:
    """Multiplications and additions of every run and look."""
    runs_of_seed = len(DRIFTS) * len(FACTORS)
    looks = len(DRIFTS) * len(ARMS) * len(stops(settings))
    steps = _branches.count_training(settings, runs_of_seed * length(settings))
    forward, _ = kit.operations_per_image(settings, settings.dataset)
    return _trips.count_seeds(settings) * (steps + looks * settings.hessian_images * forward)


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """The table that is judged, of each seed, drift and arm: late_loss, the mean over the second
    half; steps, at which its loss first is at most what the large rate's is on average over the last
    quarter (NaN where it never is), and longest, those of the run.
    """
    known = ("dataset", "seed", "commit", "device", "setting", "diverged", "drift")
    cells, rows = [name for name in table if name in known], []
    for key, curves in table.groupby(cells, sort=False, dropna=False):
        longest = curves.step.max()
        large = curves[(curves.arm == "large rate") & (curves.step > 0.75 * longest)]
        for arm, curve in curves.groupby("arm", sort=False, dropna=False):
            arrived = curve.step[curve.loss <= large.loss.mean()]
            late = curve.loss[curve.step > 0.5 * longest].mean()
            judged = {"arm": arm, "late_loss": late, "steps": arrived.min(), "longest": longest}
            rows.append(dict(zip(cells, key, strict=True)) | judged)
    return pd.DataFrame(rows)


@experiment(
    fields={"arm": ARMS, "drift": tuple(DRIFTS)},
    metrics=("late_loss", "steps", "longest"),
    datasets=("digits",),
    needs_data=True,
    operations=operations,
    derive=derive,
    whole=True,
    units=_trips.count_seeds,
)
def drifting_data(settings: Settings) -> pd.DataFrame:
    """Losses along runs from the initial weights, at three rates and averaged, with three drifts
    (section 5.1).

    Columns: seed, drift (none, slow, fast: how far the images turn), arm, step, loss (nats, on
    fixed draws of the images as they stand then). Arms: large rate (the main run's), small rate,
    smallest rate; average (exponential, of the large rate's iterates) and average at the small
    rate.
    """
    return _trips.run_each(train_with_drift, settings).table


def train_with_drift(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """Every run of one seed."""
    main = _branches.Main.load(settings, point["seed"], device)
    tables = []
    for drift, degrees in DRIFTS.items():
        data = Turning(settings, main.images, device, degrees, length(settings))
        rows = list(_follow(main, data))
        tables.append(pd.DataFrame(rows, columns=["arm", "step", "loss"]).assign(drift=drift))
    return pd.concat(tables, ignore_index=True)


def _follow(main: _branches.Main, data: Turning) -> Iterator[tuple[str, int, float]]:
    """(arm, step, loss) of a run at each of the constant rates and of the averages."""
    states = {arm: _begin(main) for arm in FACTORS}
    for stop in stops(main.settings):
        for arm, factor in FACTORS.items():
            rate = schedules.constant(factor * main.settings.lr)
            states[arm], _ = training.advance(states[arm], data, rate, main.seed, MAIN, stop)
        evaluate = _evaluate_at(main, data, stop)
        points = {arm: training.flat_weights(state.model) for arm, state in states.items()}
        points |= {name: states[arm].averages[0].value for arm, name in AVERAGE_OF.items()}
        yield from ((arm, stop, evaluate(each)["train_loss"]) for arm, each in points.items())


def _begin(main: _branches.Main) -> training.State:
    """The state before the first step, with an average that starts at its weights."""
    state = main.state()
    steps = min(AVERAGING_STEPS, max(1, length(main.settings) // 6))
    average = _Average(training.flat_weights(state.model), steps)
    return training.State(state.model, state.optimizer, (average,))


def _evaluate_at(main: _branches.Main, data: Turning, stop: int) -> training.Evaluator:
    """Loss and accuracy on the images as the last step before `stop` had them."""
    settings, now = main.settings, data.at(stop - 1)
    sets = {"train": now.draws(0, DRAWS, settings.hessian_images)}
    norm = kit.norm_batches(now, settings.norm_batch, settings.norm_batches)
    return kit.evaluator(kit.network(settings, 0, main.images, main.device), sets, norm)


class _Average:
    """e <- e + (theta - e) / steps, from the first weights on."""

    def __init__(self, weights, steps: int):
        self.value = weights
        self.steps = steps

    def update(self, weights) -> None:
        """The next iterate, (parameters,)."""
        self.value = self.value + (weights - self.value) / self.steps
