"""From the experiments' tables to one estimate a case of a claim."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pandas as pd

from replicate.analysis import Estimate, estimate, seeds_needed
from replicate.claims import Claim, Measured, load
from replicate.sources.fabi2021extrapolation import figures, trained
from replicate.sources.fabi2021extrapolation.orders import slopes

SOURCE = "fabi2021extrapolation"
NOT_BUILT = ("X-16",)  # nothing here looks up addresses
BUILT = tuple(claim.id for claim in load(SOURCE) if claim.id not in NOT_BUILT)
TABLED = ("derivations", "behaviour", "stability", "noise")  # experiments whose rows are cases already


def measure(tables: Mapping[str, pd.DataFrame]) -> list[Measured]:
    """Every case that the tables decide. tables: experiment name -> what `runs.over` gave, empty where not run."""
    claims = {claim.id: claim for claim in load(SOURCE)}
    found = [_tabled(row) for name in TABLED for row in tables[name].itertuples() if row.claim]
    for experiment, cases in CASES.items():
        if tables[experiment].empty:
            continue
        for dataset, part in tables[experiment].groupby("dataset", sort=False):
            origin = {name: ", ".join(sorted(part[name].unique())) for name in ("commit", "device")}
            for claim, case, value, control in cases(part):
                name = f"{dataset} {case}".strip() if dataset != "quadratic" else case
                pair = (_estimated(claims[claim], one) for one in (value, control))
                found.append(Measured(claim, name, *pair, **origin))
    return found


def _tabled(row) -> Measured:
    control = None if pd.isna(row.control) else Estimate.exact(row.control)
    return Measured(row.claim, row.case, Estimate.exact(row.value), control, row.commit, row.device)


def _estimated(claim: Claim, values) -> Estimate | None:
    """A number as it is, a table (seed, branch, and what `estimate` takes) with its interval.

    Where the interval does not decide, the reason says how many seeds would, mean and spread staying what they are.
    """
    if values is None or isinstance(values, int | float):
        return None if values is None else Estimate.exact(float(values))
    found = estimate(values, claim.kind, claim.band)
    if not found.reason and claim.holds(found) == "inconclusive" and "value" in values:
        count = seeds_needed(found, claim.band)
        return replace(found, reason=f"about {count} seeds would decide")
    return found


def _orders(part: pd.DataFrame) -> Iterator[tuple]:
    slope = slopes(part)
    for path in part.path.unique():
        yield "EXTRA-01", path, slope[path, "taylor", 3], slope[path, "taylor", 2]
        for m, name in enumerate(("first", "second", "third"), start=1):
            plain, better = slope[path, "backward", m], slope[path, "bdf", m]
            yield "EXTRA-02", f"{path} m={m}", plain, slope[path, "central", 1] if m == 1 else None
            yield f"EXTRA-11.{name}", path, better - plain, None


CASES: dict[str, Callable[[pd.DataFrame], Iterator[tuple]]] = {
    "orders": _orders,
    "paths": figures.of_paths,
    "rate_search": figures.of_rates,
    "basins": figures.of_basins,
    "networks": trained.of_arms,
    "rate_curves": trained.of_rates,
    "batch_sizes": trained.of_batch_sizes,
    "resolution": trained.of_resolution,
}
