"""From the tables of a source's experiments to one estimate per case of a claim: the same for every
source.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from replicate.claims import obstacles
from replicate.claims.cells import Absent, Cells
from replicate.claims.claim import Claim
from replicate.claims.contrasts import Contrast, Least, Ratio
from replicate.claims.statistics import Estimate, estimate, least, seeds_needed
from replicate.errors import BadData

SAME_WORK = "the same work twice"
FEWEST_SEEDS = (
    5  # below it Student's interval says more about the spread of the seeds than about the claim
)
LISTED = 5  # values of a field that a contrast runs along, up to which a case is called by them


MOST_LISTED = 4  # values of a field that a label names one by one


@dataclass(frozen=True)
class Decided:
    """The tables that decide claims of one experiment, or of several together.

    table: what is judged, with the columns dataset, commit, device and setting. fields: the columns
    that tell cells apart. measures: measures of the experiments' files by name: (contrast, table of
    one case's data sets) -> by case. named: whether a case is called by its data set; algebra has
    none.
    """

    table: pd.DataFrame
    fields: tuple[str, ...]
    measures: Mapping[str, Callable]
    named: bool = True
    planned: Mapping[object, int] = field(default_factory=dict)
    stand_ins: frozenset = frozenset()


@dataclass(frozen=True)
class Measured:
    """What one case of a claim came to, with its control, and where the numbers were made.

    role: "primary" as far as the case goes (`judge` knows whether it is the preset's), "secondary"
    or "control". case: its fields; label: the same for readers; cell: the same without the data
    set. obstacles: what keeps it from a firm word. band, unit: where they are not the claim's.
    """

    claim: str
    role: str
    case: Mapping[str, object]
    label: str
    contrast: str
    estimate: Estimate
    control: Estimate | None = None
    controlled: str = ""
    commit: str = ""
    device: str = ""
    setting: str = ""
    cell: str = ""
    obstacles: tuple[str, ...] = ()
    band: tuple[float, float] | None = None
    unit: str = ""


def measure(
    claims: list[Claim], decided: Callable[[tuple[str, ...]], Decided | None]
) -> list[Measured]:
    """Every case that the tables decide. decided: names of experiments -> their tables, None where
    nothing has run.
    """
    decisions: dict[tuple[str, ...], tuple[Decided, Cells] | None] = {}
    rows: list[Measured] = []
    for claim in claims:
        names = claim.experiments
        if names and names not in decisions:
            tables = decided(names)
            decisions[names] = (
                None if tables is None else (tables, Cells(tables.table, tables.fields))
            )
        if names and decisions[names] is not None:
            rows += _of_claim(claim, *decisions[names])
    return rows


def describe(contrast: Contrast) -> str:
    """A contrast in one line for readers: its name, metric, arms and what is fixed."""
    if contrast.of:
        return contrast.of
    arms = ", ".join(_describe_arm(arm) for arm in contrast.arms)
    phrases = [
        f"{contrast.name} of {contrast.metric}" if contrast.metric else contrast.name,
        arms and f": {arms}",
    ]
    phrases += [f"; base {_describe_arm(contrast.base)}"] if contrast.base is not None else []
    phrases += [f"; over {contrast.over}"] if contrast.over else []
    fixed = {**contrast.where, **contrast.options}
    phrases += (
        ["; " + ", ".join(f"{name} {_text(value)}" for name, value in fixed.items())]
        if fixed
        else []
    )
    return "".join(phrases)


def _of_claim(claim: Claim, tables: Decided, cells: Cells) -> Iterator[Measured]:
    contrast = Contrast.read(claim.contrast)
    if contrast.name == "exact":
        of_claim = {
            "where": {"claim": claim.id},
            "metric": contrast.metric or "value",
            "arms": [{}],
        }
        contrast = contrast.change(of_claim)
    question = _Question(claim, tables, cells)
    yield from question.judge_cases("primary", contrast, contrast, claim.control)
    for name, changes in claim.secondary.items():
        other = contrast.change(_without(changes, "control"))
        yield from question.judge_cases(
            "secondary", other, other, changes.get("control", claim.control), name
        )
    for name, changes in claim.controls.items():
        yield from question.judge_cases(
            "control", contrast.change(_without(changes)), contrast, {}, name
        )


@dataclass(frozen=True)
class _Question:
    """A claim with the tables that decide it."""

    claim: Claim
    tables: Decided
    cells: Cells

    def judge_cases(
        self, role: str, contrast: Contrast, of_cases: Contrast, changes: Mapping, name: str = ""
    ) -> Iterator[Measured]:
        """A contrast in every case of another one (mostly itself), with its control in the same
        case.
        """
        control = contrast.change(_without(changes)) if changes else None
        against = changes.get("what") or (describe(control) if control else "")
        for case in self._cases(of_cases):
            try:
                numbers = self._numbers(contrast, case)
            except Absent:
                continue
            other = None if control is None else self._control(control, case)
            label, cell = (
                " ".join(text for text in (self._label(case, contrast, named), name) if text)
                for named in (self.tables.named, False)
            )
            row = Measured(
                self.claim.id, role, case, label, describe(contrast), _estimate(self.claim, numbers), other,
                against if other is not None else "", cell=cell, **self.cells.origin(case.get("dataset")),
            )  # fmt: skip
            yield from self._with_obstacles(row, contrast) if role == "primary" else [row]

    def _with_obstacles(self, row: Measured, contrast: Contrast) -> Iterator[Measured]:
        """The row with its obstacles, and a row beside it for the same work done twice."""
        case = obstacles.Case(
            self.claim, contrast, row.case, self.cells, row.estimate, self.tables.planned, self.tables.stand_ins,
            lambda other, kind, band: self._other(other, row.case, kind, band),
        )  # fmt: skip
        yield replace(row, obstacles=obstacles.find(case))
        if (level := obstacles.same_work(case)) is not None:
            about = describe(contrast.change(self.claim.level))
            yield replace(
                row, role="control", label=f"{row.label} {SAME_WORK}".strip(), contrast=about, estimate=level,
                control=None, controlled="", band=obstacles.LEVEL_BAND, unit="ratio",
            )  # fmt: skip

    def _other(
        self, contrast: Contrast, case: Mapping, kind: str, band: tuple[float, float]
    ) -> Estimate | None:
        """Another contrast in the same case, None where it was not run."""
        try:
            numbers = self._numbers(contrast, case)
        except Absent:
            return None
        return _with_interval(numbers, kind, band)

    def _cases(self, contrast: Contrast) -> list[dict]:
        if contrast.name in self.tables.measures:
            return [
                case for case, _ in self.tables.measures[contrast.name](contrast, self.tables.table)
            ]
        return contrast.cases(self.cells)

    def _numbers(self, contrast: Contrast, case: Mapping):
        """What the contrast comes to in one case. Raises Absent."""
        if contrast.name not in self.tables.measures:
            return contrast.numbers(self.cells, case)
        for measured, numbers in self.tables.measures[contrast.name](contrast, self.tables.table):
            if measured == case:
                return numbers
        raise Absent(f"no case {case}")

    def _control(self, contrast: Contrast, case: Mapping) -> Estimate | None:
        """The control's estimate, None where it was not run or has no number."""
        try:
            numbers = self._numbers(contrast, case)
        except Absent:
            return None
        without = not self.claim.has_interval and not isinstance(numbers, Ratio)
        if without and pd.Series(numbers, dtype=float).isna().all():
            return None
        return _estimate(self.claim, numbers)

    def _label(self, case: Mapping, contrast: Contrast, named: bool) -> str:
        """The data set, if named, and the fields that tell cases apart, those without a value left
        out.
        """
        hidden = {name for name, wanted in contrast.where.items() if not isinstance(wanted, list)}
        hidden -= {name for fields in self.claim.primary.values() for name in fields}
        hidden |= {"claim"} if named else {"claim", "dataset"}
        shown = {
            name: value
            for name, value in case.items()
            if name not in hidden and value not in (None, "")
        }
        return " ".join(_field(name, value) for name, value in shown.items())


def _field(name: str, value: object) -> str:
    if isinstance(value, list) and len(value) > LISTED:
        return f"{len(value)} {name}s"
    return f"{name}={_text(value)}" if isinstance(value, int | float) else _text(value)


def _estimate(claim: Claim, numbers) -> Estimate:
    """The number of an exact claim as it is, else an estimate with interval and p for the claim's
    band.
    """
    if not claim.has_interval:
        return Estimate.exact(_single(claim, numbers))
    result = _with_interval(numbers, claim.kind, claim.band)
    return result if isinstance(numbers, Least | Ratio) else _with_count(claim, result)


def _with_interval(numbers, kind: str, band: tuple[float, float]) -> Estimate:
    if isinstance(numbers, Least):
        return least([_columns(value=each) for each in numbers.of], band)
    if isinstance(numbers, Ratio):
        columns = _columns(numerator=numbers.numerator, denominator=numbers.denominator)
        return estimate(columns, kind, band)
    return estimate(_columns(value=numbers), kind, band)


def _with_count(claim: Claim, result: Estimate) -> Estimate:
    """Where an interval does not decide, how many seeds would, mean and spread staying what they
    are.
    """
    if result.reason or claim.position(result.low, result.high) != "across":
        return result
    if result.low == result.high:
        return replace(result, hint="a tie")
    count = max(FEWEST_SEEDS, seeds_needed(result, claim.band))
    return replace(result, hint=f"about {count} seeds would decide at this mean and spread")


def _single(claim: Claim, numbers) -> float:
    if isinstance(numbers, Ratio):
        return float(numbers.numerator.mean() / numbers.denominator.mean())
    values = pd.Series(numbers, dtype=float).dropna().unique()
    if len(values) != 1:
        raise BadData(
            f"claim {claim.id}: an exact claim needs one number per case, got {len(values)}"
        )
    return float(values[0])


def _columns(**columns: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame(columns)
    table.index = table.index.set_names(["seed", "branch"])
    return table.reset_index()


def _describe_arm(arm: Mapping) -> str:
    name = [arm["arm"]] if "arm" in arm else []
    rest = [f"{key} {_text(value)}" for key, value in arm.items() if key != "arm"]
    return " ".join([*name, f"({', '.join(rest)})" if name and rest else ", ".join(rest)]).strip()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        texts = [_text(each) for each in value]
        return "+".join(texts) if len(texts) <= MOST_LISTED else f"{texts[0]} to {texts[-1]}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _without(changes: Mapping, *names: str) -> dict:
    return {name: value for name, value in changes.items() if name not in ("what", *names)}
