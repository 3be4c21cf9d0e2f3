"""Fast / slow weight intuition: accuracy at every step of some cycles, and after their pulls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from replicate import runs, training
from replicate.errors import Diverged
from replicate.sources.protocol import Evidence, experiment
from replicate.sources.zhang2019lookahead import _networks, _operations
from replicate.sources.zhang2019lookahead.settings import Settings

COLUMNS_SEEN = {
    "train_loss": ("train", "loss"),
    "train_top1": ("train", "top1"),
    "test_loss": ("test", "loss"),
    "top1": ("test", "top1"),
}
# Statistics of BatchNorm as they are, or anew at each place; a net without them has neither.
NORMS = ("running", "re-estimated", "none")


def derive(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the cycles of a probe; `place` of the last fast weights is "last"."""
    last = table.place[table.place != "pull"].astype(int).max()
    names = table.place.replace({"0": "slow", str(last): "last"})
    unit = ["seed", "net", "probe", "norm", "place"]
    return table.assign(place=names).groupby(unit, as_index=False)[list(COLUMNS_SEEN)].mean()


def name_probes(settings: Settings) -> list[str]:
    """The probes by how many drops of the rate lie before them: "0 drops", "1 drops", ..."""
    return [f"{sum(share >= drop for drop in settings.drops)} drops" for share in settings.probes]


def find_begin(settings: Settings, share: float) -> int:
    """The pull nearest to a share of the run: a probe's first step."""
    return round(share * settings.steps / settings.k) * settings.k


def operations(settings: Settings) -> float:
    """Multiplications and additions of all runs: every step of a cycle is seen, and both its ends."""
    looks = len(settings.probes) * settings.cycles * (settings.k + 2)
    steps = 0
    for share in settings.probes:
        steps = max(find_begin(settings, share), steps) + settings.cycles * settings.k
    run = _operations.count_steps(settings, steps)
    run += _operations.count_raw(settings, looks, ["train", "test"])
    anew = settings.nets.count("batch norm") * _operations.count_looks(settings, looks)
    return len(settings.seeds) * (len(settings.nets) * run + anew)


@experiment(
    fields={
        "net": lambda settings: settings.nets,
        "probe": name_probes,
        "norm": NORMS,
        "place": lambda settings: ["slow", *map(str, range(1, settings.k)), "last", "pull"],
    },
    metrics=tuple(COLUMNS_SEEN),
    datasets=("digits", "cifar10-cycles"),
    needs_data=True,
    operations=operations,
    derive=derive,
    evidence={"cifar10-cycles": Evidence(60, "fast and slow weights, ResNet-18")},
    night={
        "cifar10-cycles": Evidence(77, "fast and slow weights, with and without BatchNorm's part")
    },
)
def within_cycle(settings: Settings) -> pd.DataFrame:
    """Losses and accuracies within cycles of Lookahead at the settings' rate, which is decayed.

    Columns: seed, net, probe, cycle, norm, place, and the metrics. place: "0", the slow weights at the
    beginning; "1" to the last, fast weights after that many steps; "pull", the slow weights after
    it.
    """
    points = [{"seed": seed, "net": net} for seed in settings.seeds for net in settings.nets]
    return runs.each(cycles_run, settings, points).table


def cycles_run(
    settings: Settings, point: dict, folder: Path, parents: list[Path], device: str
) -> pd.DataFrame:
    """A seed and net: every place of the cycles of all probes. Empty from where it diverges."""
    about = {"method": "lookahead", "schedule": "decayed", "lr": settings.lr}
    run = _networks.Run(settings, point | about, device, point["net"])
    rows = []
    try:
        for probe, share in zip(name_probes(settings), settings.probes, strict=True):
            run.advance(max(find_begin(settings, share), run.step))
            for cycle in range(settings.cycles):
                rows += [{"probe": probe, "cycle": cycle} | row for row in _look(run, settings)]
    except Diverged:
        pass
    return pd.DataFrame(rows)


def _look(run: _networks.Run, settings: Settings) -> Iterator[dict]:
    """All places of one cycle, from the pull before it to its own."""
    slow = training.flat_weights(run.model)
    yield from _see(run, "0")
    for place in range(1, settings.k):
        run.advance(run.step + 1)
        yield from _see(run, str(place))
    run.advance(run.step + 1)
    pulled = training.flat_weights(run.model)
    # The pull is part of the last step: phi' = phi + alpha (theta_k - phi).
    fast = slow + (pulled - slow) / settings.alpha
    yield from _see(run, str(settings.k), fast)
    yield from _see(run, "pull")


def _see(run: _networks.Run, place: str, weights=None) -> Iterator[dict]:
    """The metrics at weights, by default the model's, as often as BatchNorm has statistics."""
    raw = run.raw_evaluator(COLUMNS_SEEN)(weights)
    if not run.has_statistics:
        yield {"norm": "none", "place": place} | raw
        return
    yield {"norm": "running", "place": place} | raw
    columns = run.evaluator()(weights)
    yield {"norm": "re-estimated", "place": place} | {name: columns[name] for name in COLUMNS_SEEN}
