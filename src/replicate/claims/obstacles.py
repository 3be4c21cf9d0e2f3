"""What keeps a case from a firm word, whatever its interval says.

Seeds that the preset plans and that are not there yet, a stand-in for a claim about the source's own
setting, a tuned rate at the edge of its grid, a tuned rate whose neighbour on the grid would change
the word, and a clock that does not give the same work the same time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from replicate.claims.cells import Absent, Cells
from replicate.claims.claim import Claim, position
from replicate.claims.contrasts import Contrast
from replicate.claims.statistics import Estimate

AT_EDGE = "at_edge"  # column: 1 where the tuned rate of a row lies at an end of its grid
LEVEL_BAND = (0.9, 1.1)  # of the time of the same work twice, a 90 % interval: the design's


@dataclass(frozen=True)
class Case:
    """A claim's contrast in one case, with what it came to and what else can be estimated there.

    planned: data set -> how many seeds the preset runs on it. stand_ins: data sets whose setting is
    not the source's. estimate_of: a contrast, a kind of interval and a band -> its estimate in this
    case, None where it was not run.
    """

    claim: Claim
    contrast: Contrast
    fields: Mapping[str, object]
    cells: Cells
    result: Estimate
    planned: Mapping[object, int]
    stand_ins: frozenset
    estimate_of: Callable[[Contrast, str, tuple[float, float]], Estimate | None]

    @property
    def datasets(self) -> list:
        """The data sets of the case, several if the contrast runs along them."""
        name = self.fields.get("dataset")
        return name if isinstance(name, list) else [name]


def find(case: Case) -> tuple[str, ...]:
    """Every obstacle of a case with an interval, in plain words."""
    if not case.claim.has_interval:
        return ()
    checks = (_missing_seeds, _stand_in, _edges_of_grids, _rates_that_decide, _clock)
    return tuple(line for check in checks for line in check(case))


def same_work(case: Case) -> Estimate | None:
    """The ratio of the seconds of the same work done twice, None where the claim has no such pair."""
    if not case.claim.level:
        return None
    return case.estimate_of(case.contrast.change(case.claim.level), "equivalence", LEVEL_BAND)


def _missing_seeds(case: Case) -> Iterator[str]:
    planned = max(case.planned.get(name, 0) for name in case.datasets)
    if case.result.n < planned:
        yield f"{case.result.n} of {planned} seeds"


def _stand_in(case: Case) -> Iterator[str]:
    if case.claim.scope == "setting" and case.stand_ins.intersection(case.datasets):
        yield "about the source's own setting, for which this one stands in"


def _edges_of_grids(case: Case) -> Iterator[str]:
    for arm in case.contrast.arms:
        try:
            at_edge = case.contrast.of_arm(case.cells, case.fields, {**arm, "metric": AT_EDGE})
        except Absent:  # nothing was tuned, or the contrast gives its arms by another way
            continue
        if (count := int((at_edge.to_numpy() == 1).sum())) > 0:
            yield f"the tuned rate of {_name(arm)} lies at the edge of its grid, {count} times"


def _rates_that_decide(case: Case) -> Iterator[str]:
    """Neighbours of a tuned rate at which the interval lies elsewhere beside the band."""
    place = case.claim.position(case.result.low, case.result.high)
    if case.result.reason or place == "across":  # inconclusive as it is
        return
    for number, field, value in _moves(case):
        arms = list(case.contrast.arms)
        arms[number] = {**arms[number], field: value}
        changed = replace(case.contrast, arms=tuple(arms))
        moved = case.estimate_of(changed, case.claim.kind, case.claim.band)
        if moved is not None and case.claim.position(moved.low, moved.high) != place:
            yield f"with {_name(arms[number])} {value} it would be {moved.value:.3g} [{moved.low:.3g}, {moved.high:.3g}]"


def _moves(case: Case) -> Iterator[tuple[int, str, object]]:
    """(arm's place, field, value); an arm that names another value of the field has no tuned rate."""
    for number, arm in enumerate(case.contrast.arms):
        for field, values in case.claim.moved.items():
            tuned = case.contrast.where.get(field, arm.get(field))
            if arm.get(field, tuned) == tuned:
                yield from ((number, field, value) for value in values)


def _clock(case: Case) -> Iterator[str]:
    level = same_work(case)
    if level is None:
        if case.claim.level:
            yield "timing not shown to be stable: the same work was not timed twice"
    elif level.reason or position(LEVEL_BAND, level.low, level.high) != "inside":
        yield f"timing unstable here: the same work twice {level.value:.3g} [{level.low:.3g}, {level.high:.3g}]"


def _name(arm: Mapping) -> str:
    return str(arm.get("arm", " ".join(str(value) for value in arm.values())))
