"""From the experiments' tables to one estimate a case of a claim."""

from collections.abc import Iterator, Mapping

import pandas as pd

from replicate.analysis import Estimate, closest, estimate
from replicate.claims import Claim, Measured, load

SOURCE = "sandler2023trajectories"
ROW = {"swa": "TRAJ-21", "two-point": "TRAJ-22", "ema": "TRAJ-23"}  # rows of Table 1
NEAREST = 100  # steps: the window whose gain `TRAJ-20.adjacent` is held against
BUILT = (
    *("TRAJ-20.loss", "TRAJ-20.top1", "TRAJ-20.adjacent"),
    *(f"{row}.{what}" for row in ROW.values() for what in ("loss", "top1", "closest")),
    *("TRAJ-24", "TRAJ-25.frozen", "TRAJ-25.real", "TRAJ-26", "TRAJ-27", "TRAJ-29.outside", "TRAJ-29.inside"),
    *("E-8.printed", "E-8.last", "E-8.all", "E-8.first", "E-9.zero", "E-9.one", "E-9.start"),
    *("E-14.reset", "E-14.corrected"),
)


def measure(tables: Mapping[str, pd.DataFrame]) -> list[Measured]:
    """Every case that the tables decide. tables: experiment name -> what `runs.over` gave, empty where not run."""
    claims = {claim.id: claim for claim in load(SOURCE)}
    found = [
        Measured(row.claim, row.case, Estimate.exact(row.value), _exact(row.control), row.commit, row.device)
        for row in tables["table_1"].itertuples()
    ]
    for experiment, cases in (("figure_5", _figure_5), ("last_steps", _last_steps)):
        if tables[experiment].empty:
            continue
        for dataset, part in tables[experiment].groupby("dataset", sort=False):
            origin = {name: ", ".join(sorted(part[name].unique())) for name in ("commit", "device")}
            found += [
                Measured(claim, f"{dataset} {case}", value, control, **origin)
                for claim, case, value, control in cases(part, claims)
            ]
    return found


def contrasts(figure_5: pd.DataFrame) -> pd.DataFrame:
    """What Figure 5 comes down to, one row a window: gains in nats of training loss, and the ratio with its interval.

    Columns: dataset, kernel, k, gain of the average, gain of the side-trip, signed difference side - average with its
    95 % interval, ratio of the gains with its 90 % interval.
    """
    rows = []
    for dataset, part in figure_5.groupby("dataset", sort=False) if len(figure_5) else ():
        wide = _wide(part, "train_loss")
        for kernel, k in _windows(wide):
            raw, average, side = _arms(wide, kernel, k)
            difference = estimate(_table(value=side - average), "estimate", (0.0, float("inf")))
            ratio = estimate(_table(numerator=raw - side, denominator=raw - average), "equivalence", (0.8, 1.25))
            gains = {"gain of average": (raw - average).mean(), "gain of side-trip": (raw - side).mean()}
            signed = {"side - average": difference.value, "from": difference.low, "to": difference.high}
            of_gains = {"ratio": ratio.value, "ratio from": ratio.low, "ratio to": ratio.high}
            rows.append({"dataset": dataset, "kernel": kernel, "k": k, **gains, **signed, **of_gains})
    return pd.DataFrame(rows)


def _figure_5(part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """(claim, case, estimate, control) of one data set."""
    wide = {metric: _wide(part, metric) for metric in ("train_loss", "test_loss", "top1", "to_average", "travelled")}
    yield from _midpoint(wide, claims)
    for kernel, k in _windows(wide["train_loss"]):
        yield from _equivalence(wide, kernel, k, claims)
        yield from _end_points(wide, kernel, k, claims)


def _midpoint(wide: Mapping[str, pd.DataFrame], claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """TRAJ-20: the two-point average against the better of its two points."""
    for name, metric, sign in (("TRAJ-20.loss", "train_loss", -1), ("TRAJ-20.top1", "top1", 1)):
        claim, values = claims[name], sign * wide[metric]  # so that more is better
        for k in sorted(k for arm, kernel, k in values if (arm, kernel) == ("average", "two-point") and k > 1):
            better = values[[("start", "", 0), ("raw", "", k)]].max(axis=1, skipna=False)
            control = _constant(values, k)
            against = None if control is None else _estimate(claim, value=control - better)
            gain = _estimate(claim, value=values["average", "two-point", k] - better)
            yield claim.id, f"two-point k={k}", gain, against
    claim, loss = claims["TRAJ-20.adjacent"], wide["train_loss"]
    near, far = (loss["raw", "", k] - loss["average", "two-point", k] for k in (1, NEAREST))
    yield claim.id, "two-point k=1", _estimate(claim, numerator=near, denominator=far), None


def _equivalence(wide: Mapping[str, pd.DataFrame], kernel: str, k: int, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """One window of a row of Table 1: ratio of gains, accuracy, and whether its own schedule is the closest."""
    case = f"{kernel} k={k}"
    same = claims[f"{ROW[kernel]}.loss"]
    for metric, suffix in (("train_loss", ""), ("test_loss", " test loss")):
        raw, average, side = _arms(wide[metric], kernel, k)
        gain, constant = raw - average, _constant(wide[metric], k)
        control = None if constant is None else _estimate(same, numerator=raw - constant, denominator=gain)
        yield same.id, case + suffix, _estimate(same, numerator=raw - side, denominator=gain), control
        for name, other in _controls(wide[metric], kernel, k):
            yield (
                same.id,
                f"{case}{suffix} control {name}",
                _estimate(same, numerator=raw - other, denominator=gain),
                None,
            )
    top = claims[f"{ROW[kernel]}.top1"]
    _, average, side = _arms(wide["top1"], kernel, k)
    constant = _constant(wide["top1"], k)
    control = None if constant is None else _estimate(top, value=constant - average)
    yield top.id, case, _estimate(top, value=side - average), control
    _, average, side = _arms(wide["train_loss"], kernel, k)
    rivals = {
        name: _table(value=other - average)
        for name, other in _controls(wide["train_loss"], kernel, k)
        if name.startswith("swapped")
    }
    if rivals:
        yield f"{ROW[kernel]}.closest", case, closest(_table(value=side - average), rivals), None


def _end_points(wide: Mapping[str, pd.DataFrame], kernel: str, k: int, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """TRAJ-25 to TRAJ-27: how far apart side-trip and average end, and whether the mini-batches matter."""
    case, loss, apart = f"{kernel} k={k}", wide["train_loss"], wide["to_average"]
    near, travelled = apart["side-trip", kernel, k], wide["travelled"]["average", kernel, k]
    yield "TRAJ-25.real", case, _estimate(claims["TRAJ-25.real"], numerator=near, denominator=travelled), None
    if ("other-batches", kernel, k) not in loss:
        return
    far = apart["other-batches", kernel, k]
    yield "TRAJ-26", case, _estimate(claims["TRAJ-26"], numerator=near, denominator=far), None
    raw, average, side = _arms(loss, kernel, k)
    claim, other = claims["TRAJ-27"], loss["other-batches", kernel, k]
    against = _estimate(claim, numerator=_constant(loss, k) - side, denominator=raw - average)
    yield claim.id, case, _estimate(claim, numerator=other - side, denominator=raw - average), against


def _last_steps(part: pd.DataFrame, claims: Mapping[str, Claim]) -> Iterator[tuple]:
    """TRAJ-24: ends of side-trips that set in later, against the one that sets in first, in units of the gain."""
    claim, wide = claims["TRAJ-24"], _wide(part.assign(kernel=""), "train_loss")
    windows = sorted(k for arm, _, k in wide if arm == "side-trip")
    (raw,), (average,) = ([wide[c] for c in wide if c[0] == arm] for arm in ("raw", "average"))
    late = {k: wide["side-trip", "", k] - wide["side-trip", "", windows[-1]] for k in windows[:-1]}
    for k, change in late.items():
        control = _estimate(claim, numerator=late[windows[0]], denominator=raw - average) if k > windows[0] else None
        yield claim.id, f"ema k={k}", _estimate(claim, numerator=change, denominator=raw - average), control


def _exact(value: float) -> Estimate | None:
    return None if pd.isna(value) else Estimate.exact(value)


def _wide(part: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row a (seed, branch), one column an (arm, kernel, k). A run that diverged has NaN in all of them."""
    keys = ["seed", "branch"]
    wide = part.dropna(subset="arm").astype({"k": int}).pivot(index=keys, columns=["arm", "kernel", "k"], values=metric)
    return wide.reindex(pd.MultiIndex.from_frame(part[keys].drop_duplicates()))


def _windows(wide: pd.DataFrame) -> list[tuple[str, int]]:
    return [(kernel, k) for arm, kernel, k in wide if arm == "side-trip"]


def _arms(wide: pd.DataFrame, kernel: str, k: int) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Raw, average and side-trip of a window."""
    return wide["raw", "", k], wide["average", kernel, k], wide["side-trip", kernel, k]


def _constant(wide: pd.DataFrame, k: int) -> pd.Series | None:
    """The control that keeps the rate and changes the mini-batches, where it was run."""
    return wide["constant-rate", "", k] if ("constant-rate", "", k) in wide else None


def _controls(wide: pd.DataFrame, kernel: str, k: int) -> Iterator[tuple[str, pd.Series]]:
    """The other side-trips that a window's average is held against."""
    if ("other-batches", kernel, k) in wide:
        yield "other-batches", wide["other-batches", kernel, k]
    for other in ROW:
        if other != kernel and ("side-trip", other, k) in wide:
            yield f"swapped {other}", wide["side-trip", other, k]


def _estimate(claim: Claim, **columns: pd.Series) -> Estimate:
    return estimate(_table(**columns), claim.kind, claim.band)


def _table(**columns: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(columns).reset_index()
