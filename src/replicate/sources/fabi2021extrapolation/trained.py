"""What the networks say: (claim, case, value a seed, control a seed) of one data set.

A value is a table (seed, branch, value), or numerator and denominator for a ratio of means.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

REGIMES = {"source": "source", "tuned": "tuned", "validated": "validated", "plain-best": "plain's best"}
# An extrapolating arm, and plain SGD at the rate eta (1 + s) that goes as far.
EXTRAPOLATED = {"s=0.1": "rate-1.1", "s=0.5": "rate-1.5", "s=1": "rate-2", "every=4": "rate-1.25"}
TARGET = 0.75  # of plain SGD's steps: where it has the loss that the others are timed to
ROOM = 0.005  # fraction by which an accuracy may be lower and still count as the same


def of_arms(part: pd.DataFrame) -> Iterator[tuple]:
    """Every comparison of arms, from `networks`."""
    for regime, of_regime in part.groupby("regime", sort=False):
        runs = dict(iter(of_regime.groupby("arm")))
        name = REGIMES[regime]
        if regime in ("source", "plain-best"):
            yield from _without_effect(runs, name)
            yield from _interrupted(runs, name)
            yield from _late(runs, name)
        yield from _useful(runs, regime)


def of_rates(part: pd.DataFrame) -> Iterator[tuple]:
    """How the benefit changes with the rate, and where plain SGD is best, from `rate_curves`."""
    losses = part.pivot(index=["seed", "branch"], columns=["arm", "lr"], values="train_loss")
    rates = [
        lr for lr in losses["plain"] if losses[[("plain", lr), ("s=0.5", lr), ("rate-1.5", lr)]].notna().all(axis=None)
    ]
    if len(rates) > 2:
        gains = (np.log10(losses["plain"][rates] / losses[arm][rates]) for arm in ("s=0.5", "rate-1.5"))
        yield "EXTRA-20", "rates", *(_values(_slope(np.log10(rates), gain)) for gain in gains)
    valid = part[part.arm == "plain"].pivot(index=["seed", "branch"], columns="lr", values="valid_loss")
    yield "EXTRA-28", "rates", _values(np.log10(valid.idxmin(axis=1) / 0.02)), None


def of_batch_sizes(part: pd.DataFrame) -> Iterator[tuple]:
    """How the benefit changes with the batch, from `batch_sizes`."""
    losses = part.pivot(index=["seed", "branch"], columns=["arm", "batch"], values="train_loss")
    gain = np.log10(losses["plain"] / losses["s=0.5"])
    yield "EXTRA-18", "batch sizes", _values(_slope(np.log2(list(gain)), gain)), None


def of_resolution(part: pd.DataFrame) -> Iterator[tuple]:
    """What of an extrapolation arrives in the weights, and how long it is, from `resolution`."""
    (smallest,) = part[part.what == "printed"].groupby("dataset")[["changed", "length"]].max().to_numpy()
    yield "X-12.share", "", float(smallest[0]), None
    yield "X-12.length", "", float(smallest[1]), None
    squares = part[part.what.isin(["noise", "quiet"])].set_index(["seed", "branch"])
    if squares.empty:
        return
    pairs = (
        squares[squares.what == what][["extrapolation", "predicted"]].set_axis(["numerator", "denominator"], axis=1)
        for what in ("noise", "quiet")
    )
    yield "EXTRA-B1.gain", "s=1", *(pair.reset_index() for pair in pairs)


def _without_effect(runs: dict, regime: str) -> Iterator[tuple]:
    """EXTRA-16: dt as printed against plain SGD, at equal gradients, after twice as many, and in seconds."""
    case, plain, printed, double = f"dt=1e-10 {regime}", *(runs.get(arm) for arm in ("plain", "dt=1e-10", "double"))
    if printed is None:
        return
    gain = _final(printed, "top1") - _final(plain, "top1")
    control = None if double is None else _values(_final(double, "top1") - _final(plain, "top1"))
    yield "EXTRA-16.accuracy", case, _values(gain), control
    yield "EXTRA-16.equal", case, _values(gain), control
    if double is not None:
        yield "EXTRA-16.half", case, _values(_final(printed, "top1") - _final(double, "top1")), None
    yield "EXTRA-16.seconds", case, _sooner(printed, plain, plain, "seconds"), None


def _interrupted(runs: dict, regime: str) -> Iterator[tuple]:
    """EXTRA-14.advantage: every step against every fourth; the control does the same with plain rates."""
    if "every=4" in runs and "s=1" in runs:
        pairs = (("s=1", "every=4"), ("rate-2", "rate-1.25"))
        yield "EXTRA-14.advantage", f"every=4 {regime}", *(_values(_log_ratio(runs, *pair)) for pair in pairs)


def _late(runs: dict, regime: str) -> Iterator[tuple]:
    """EXTRA-19.early: from the beginning against from 80 % of the run on."""
    if "s=1 late" in runs:
        pairs = (("s=1", "s=1 late"), ("rate-2", "rate-2 late"))
        yield "EXTRA-19.early", f"s=1 late {regime}", *(_values(_log_ratio(runs, *pair)) for pair in pairs)


def _useful(runs: dict, regime: str) -> Iterator[tuple]:
    """EXTRA-17: steps and seconds to a loss, and final accuracy."""
    plain, name = runs["plain"], REGIMES[regime]
    for arm, rival in EXTRAPOLATED.items():
        if arm not in runs:
            continue
        case, own = f"{arm} {name}", runs[arm]
        both = (own, runs.get("heavy-ball"))
        if regime == "validated":
            yield "EXTRA-17.accuracy", case, *(None if one is None else _better(one, plain) for one in both)
        if regime == "tuned":
            for claim, what in (("EXTRA-17.steps", "step"), ("EXTRA-17.seconds", "seconds")):
                yield claim, case, *(None if one is None else _sooner(one, plain, plain, what) for one in both)
        elif rival in runs and regime == "source":
            yield "EXTRA-17.source", case, *(_sooner(one, plain, plain, "step") for one in (own, runs[rival]))
        if rival in runs and regime in ("source", "plain-best"):
            yield "EXTRA-17.rate", case, _sooner(own, runs[rival], plain, "step"), None


def _better(own: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
    return _values(_final(own, "top1") - _final(plain, "top1") + ROOM)


def _final(run: pd.DataFrame, metric: str) -> pd.Series:
    return run.sort_values("step").groupby(["seed", "branch"])[metric].agg(lambda values: values.iloc[-1])


def _log_ratio(runs: dict, arm: str, other: str) -> pd.Series:
    return np.log10(_final(runs[arm], "train_loss") / _final(runs[other], "train_loss"))


def _sooner(own: pd.DataFrame, other: pd.DataFrame, plain: pd.DataFrame, what: str) -> pd.DataFrame:
    """log2 of the steps or seconds (`what`) that `own` needs to plain's target over those that `other` needs.

    An arm that never comes there is given its whole run; where neither does, there is nothing to compare (NaN).
    """
    targets, values = {}, {}
    for key, run in plain.groupby(["seed", "branch"]):
        run = run.sort_values("step")
        targets[key] = run[run.step <= TARGET * run.step.max()].train_loss.iloc[-1]
    runs = [dict(iter(arm.groupby(["seed", "branch"]))) for arm in (own, other)]
    for key, target in targets.items():
        times = [_time(of_arm[key], target, what) for of_arm in runs]
        ends = [of_arm[key][what].max() for of_arm in runs]
        reached = [end if np.isnan(time) else time for time, end in zip(times, ends, strict=True)]
        values[key] = np.nan if np.isnan(times).all() else np.log2(reached[0] / reached[1])
    return _values(pd.Series(values).rename_axis(["seed", "branch"]))


def _time(run: pd.DataFrame, target: float, what: str) -> float:
    """When the training loss first is at the target, by its logarithm between two rows; NaN if it never is."""
    run = run.sort_values("step")
    loss, places = np.log(run.train_loss.to_numpy()), run[what].to_numpy(dtype=float)
    reached = np.flatnonzero(loss <= np.log(target))
    if not len(reached):
        return np.nan
    i = reached[0]
    if i == 0:
        return places[0]
    share = (loss[i - 1] - np.log(target)) / (loss[i - 1] - loss[i])
    return places[i - 1] + share * (places[i] - places[i - 1])


def _slope(x: np.ndarray, table: pd.DataFrame) -> pd.Series:
    """Least-squares slope of each row of `table` on x, one column an x."""
    centred = np.asarray(x) - np.mean(x)
    return (table * centred).sum(axis=1, skipna=False) / (centred**2).sum()


def _values(values: pd.Series) -> pd.DataFrame:
    return values.rename("value").reset_index()
