"""Contrasts: from the numbers of a few arms, one per unit each, to the numbers that a claim is
about.

A claim names one of these functions, or a measure of its experiment's file, and the arms in the
order of the arguments. a, b, c, d: one Series per arm, by unit; with `over`, one table per arm,
units by values of that field.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd

from replicate.claims.cells import Absent, Cells

Numbers = pd.Series
Table = pd.DataFrame


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means, over the same units."""

    numerator: Numbers
    denominator: Numbers


@dataclass(frozen=True)
class Least:
    """Several numbers per unit, all of which have to lie in the band: the least of them decides."""

    of: tuple[Numbers, ...]


CONTRASTS: dict[str, Callable] = {}


def contrast(function: Callable) -> Callable:
    """Enter a function under its name, with blanks for underscores."""
    CONTRASTS[function.__name__.replace("_", " ")] = function
    return function


@contrast
def value(a: Numbers) -> Numbers:
    """a"""
    return a


@contrast
def exact(a: Numbers) -> Numbers:
    """The value of a row that the experiment computes for this claim alone: column `value`, or that
    of the control.
    """
    return a


@contrast
def difference(a: Numbers, b: Numbers) -> Numbers:
    """a - b"""
    return a - b


@contrast
def difference_with_room(a: Numbers, b: Numbers, room: float) -> Numbers:
    """a - b + room: below 0 only where a is more than `room` below b."""
    return a - b + room


@contrast
def difference_of_differences(a: Numbers, b: Numbers, c: Numbers, d: Numbers) -> Numbers:
    """(a - b) - (c - d)"""
    return (a - b) - (c - d)


@contrast
def ratio(a: Numbers, b: Numbers) -> Ratio:
    """mean(a) / mean(b)"""
    return Ratio(a, b)


@contrast
def ratio_per_unit(a: Numbers, b: Numbers) -> Numbers:
    """a / b of each unit"""
    return a / b


@contrast
def ratio_of_gains(a: Numbers, b: Numbers, base: Numbers) -> Ratio:
    """mean(base - a) / mean(base - b): what a gains over what b gains, both below the base."""
    return Ratio(base - a, base - b)


@contrast
def ratio_of_differences(a: Numbers, b: Numbers, c: Numbers, d: Numbers) -> Ratio:
    """mean(a - b) / mean(c - d)"""
    return Ratio(a - b, c - d)


@contrast
def relative_gain(a: Numbers, b: Numbers) -> Numbers:
    """1 - a / b of each unit"""
    return 1 - a / b


@contrast
def log10_ratio(a: Numbers, b: Numbers) -> Numbers:
    """log10(a / b) of each unit"""
    return np.log10(a / b)


@contrast
def log10_distance(a: Numbers, b: Numbers) -> Numbers:
    """|log10(a / b)| of each unit; none where one of them is not above 0"""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log10(a / b).abs()


@contrast
def log10_ratio_to_the_least(a: Numbers, *rivals: Numbers) -> Numbers:
    """log10(a / the least of the rivals) of each unit that a and the rivals share."""
    a, least = a.align(pd.concat(rivals, axis=1).min(axis=1, skipna=False), join="inner")
    return np.log10(a / least)


@contrast
def log2_ratio_of_times(a: Numbers, b: Numbers, ends: Sequence[Numbers]) -> Numbers:
    """log2(a / b) of the times to a target. ends: of each arm the length of its run.

    An arm that never arrives is given its whole run; where neither arrives there is nothing to
    compare (NaN).
    """
    arrived = a.notna() | b.notna()
    return np.log2(a.fillna(ends[0]) / b.fillna(ends[1])).where(arrived)


@contrast
def gain_over_the_better(
    a: Numbers, b: Numbers, c: Numbers, better: Literal["lower", "higher"]
) -> Numbers:
    """How much better a is than the better of b and c. better: "lower" or "higher"."""
    sign = {"lower": -1, "higher": 1}[better]
    rivals = pd.concat([sign * b, sign * c], axis=1)
    return sign * a - rivals.max(axis=1, skipna=False)


@contrast
def closest(a: Numbers, b: Numbers, *rivals: Numbers) -> Least:
    """How much nearer a ends to b than the nearest rival: the least over rivals of |rival - b| - |a
    - b|.
    """
    return Least(tuple((rival - b).abs() - (a - b).abs() for rival in rivals))


@contrast
def slope(a: Table, b: Table, scale: Literal["log2", "log10"]) -> Numbers:
    """Least-squares slope of log10(a / b) on log2 or log10 of the field `over`. scale: "log2" or
    "log10".
    """
    x = {"log2": np.log2, "log10": np.log10}[scale](np.array(list(a), dtype=float))
    centred = x - x.mean()
    return (np.log10(a / b) * centred).sum(axis=1, skipna=False) / (centred**2).sum()


@contrast
def share_below(a: Table, b: Table) -> Numbers:
    """Share of the values of the field `over` at which a is below b.

    Where a has no number it never got there, which is not below; where b has none the unit is lost.
    """
    return (a < b).astype(float).where(b.notna()).mean(axis=1, skipna=False)


@contrast
def least_difference(a: Table, b: Table) -> Numbers:
    """The least over the values of the field `over` of a - b."""
    return (a - b).min(axis=1, skipna=False)


@contrast
def least_lag_where_the_second_moves(a: Table, b: Table) -> Numbers:
    """The least over the values of the field `over` of b - a, of those at which b is at least 1.

    What stays at 0 lags there by 1 or more; a unit in which b moves nowhere has no number.
    """
    lag = b - a
    return lag.where(b >= 1).min(axis=1).where(lag.notna().all(axis=1))


@contrast
def mean_difference(a: Table, b: Table) -> Numbers:
    """The mean over the values of the field `over` of a - b."""
    return (a - b).mean(axis=1, skipna=False)


@contrast
def mean_ratio(a: Table, b: Table) -> Numbers:
    """The mean over the values of the field `over` of a / b."""
    return (a / b).mean(axis=1, skipna=False)


OF_THE_CELL = (
    "name",
    "metric",
    "arms",
    "where",
    "over",
    "base",
    "ends",
    "of",
)  # the rest are options of a function


@dataclass(frozen=True)
class Contrast:
    """A contrast as a claim asks for it.

    metric: the column; an arm may name another one. arms: fields of each arm. where: fields of all
    arms. over: a field that the contrast runs along. base: fields of the arm that gains are counted
    from. ends: the metric that holds the lengths of runs. options: what else its function takes.
    of: in words, for what no name says.
    """

    name: str
    metric: str = ""
    arms: tuple[Mapping, ...] = ()
    where: Mapping = field(default_factory=dict)
    over: str = ""
    base: Mapping | None = None
    ends: str = ""
    of: str = ""
    options: Mapping = field(default_factory=dict)

    @classmethod
    def read(cls, table: Mapping) -> "Contrast":
        """From the table of a claims file; a text among the arms is the value of the field `arm`."""
        options = {name: value for name, value in table.items() if name not in OF_THE_CELL}
        given = {name: value for name, value in table.items() if name in OF_THE_CELL}
        given["arms"] = tuple(_arm(each) for each in table.get("arms", ()))
        if "base" in table:
            given["base"] = _arm(table["base"])
        return cls(**given, options=options)

    def change(self, changes: Mapping) -> "Contrast":
        """The same contrast with some fields changed; `where` and options are merged."""
        new = Contrast.read({"name": self.name, **changes})
        given = {name: getattr(new, name) for name in changes if name in OF_THE_CELL}
        return replace(
            self,
            **given
            | {"where": {**self.where, **new.where}, "options": {**self.options, **new.options}},
        )

    def cases(self, cells: Cells) -> list[dict]:
        """The cases that the table has the first arm of; a field that the contrast runs along holds
        all its values.
        """
        first = {**self.where, **(self.arms[0] if self.arms else {})}
        chosen = {name: wanted for name, wanted in first.items() if name in cells.fields}
        in_arm = self.arms[0] if self.arms else {}
        free = [name for name in cells.fields if name != self.over and name not in in_arm]
        fixed = {
            name: wanted
            for name, wanted in chosen.items()
            if name in self.where and not isinstance(wanted, list)
        }
        named = [
            name for name in in_arm if name in cells.fields
        ]  # a row of another table is blank there
        cases = [case | fixed for case in cells.cases(chosen, free, named)]
        return (
            [case | {self.over: self._places(cells, case)} for case in cases]
            if self.over
            else cases
        )

    def numbers(self, cells: Cells, case: Mapping):
        """What the contrast comes to in one case: Numbers, a Ratio or a Least. Raises Absent."""
        if len(self.arms) > 1 and self.chosen(case, self.arms[0]) == self.chosen(
            case, self.arms[1]
        ):
            raise Absent("an arm is not compared with itself")
        function = CONTRASTS[self.name]
        given = dict(self.options)
        arms = [self.of_arm(cells, case, arm) for arm in self._present(cells, case)]
        if self.base is not None:
            given["base"] = self.of_arm(cells, case, self.base)
        if self.ends:
            given["ends"] = [
                self.of_arm(cells, case, {**arm, "metric": self.ends}) for arm in self.arms
            ]
        return function(*arms, **given)

    def chosen(self, case: Mapping, arm: Mapping) -> dict:
        """The fields of an arm's cell in a case; lists in `where` only say which cases there are."""
        fixed = {
            name: wanted for name, wanted in self.where.items() if not isinstance(wanted, list)
        }
        return {**case, **fixed, **arm}

    def _present(self, cells: Cells, case: Mapping) -> list[Mapping]:
        """The arms; of a contrast with any number of rivals, those rivals that ran, of which there
        must be one.
        """
        needed = arms_of(self.name)
        rivals = [arm for arm in self.arms[needed:] if self._ran(cells, case, arm)]
        if len(self.arms) > needed and not rivals:
            raise Absent("no rival ran")
        return [*self.arms[:needed], *rivals]

    def _ran(self, cells: Cells, case: Mapping, arm: Mapping) -> bool:
        try:
            self.of_arm(cells, case, arm)
        except Absent:
            return False
        return True

    def of_arm(self, cells: Cells, case: Mapping, arm: Mapping) -> Numbers | Table:
        """The numbers of one arm in a case. Raises Absent."""
        chosen = self.chosen(case, arm)
        metric = chosen.pop("metric", self.metric)
        if not self.over or self.over in arm:
            return cells.values(chosen, metric)
        return pd.DataFrame(
            {place: cells.values(chosen | {self.over: place}, metric) for place in case[self.over]}
        )

    def _places(self, cells: Cells, case: Mapping) -> list:
        """The values of `over` at which the first arm has as many units as at any."""
        chosen = self.chosen(case, self.arms[0])
        metric = chosen.pop("metric", self.metric)
        limit = {self.over: self.where[self.over]} if self.over in self.where else {}
        places = [cell[self.over] for cell in cells.cases(chosen | limit, [self.over])]
        units = {
            place: len(cells.values(chosen | {self.over: place}, metric))
            for place in places
            if place is not None
        }
        return sorted(
            (place for place in units if units[place] == max(units.values())), key=_by_size
        )


def arms_of(name: str) -> int:
    """How many arms a contrast needs."""
    parameters = inspect.signature(CONTRASTS[name]).parameters
    return sum(parameter in ("a", "b", "c", "d") for parameter in parameters)


def takes_rivals(name: str) -> bool:
    """Whether a contrast takes further arms beyond those it needs."""
    return any(
        p.kind is p.VAR_POSITIONAL for p in inspect.signature(CONTRASTS[name]).parameters.values()
    )


def options_of(name: str) -> set[str]:
    """What a contrast's function takes beside its arms."""
    return {n for n, p in inspect.signature(CONTRASTS[name]).parameters.items()
            if n not in ("a", "b", "c", "d") and p.kind is not p.VAR_POSITIONAL}  # fmt: skip


def choices_of(name: str, option: str) -> tuple[str, ...]:
    """The values that an option can have; () where it is no text."""
    return get_args(inspect.signature(CONTRASTS[name]).parameters[option].annotation)


def runs_along(name: str) -> bool:
    """Whether a contrast takes tables, units by values of the field `over`."""
    return inspect.signature(CONTRASTS[name]).parameters["a"].annotation is Table


def _by_size(place: object) -> tuple:
    return (
        (0, float(place), "")
        if isinstance(place, int | float | np.number)
        else (1, 0.0, _pad(str(place)))
    )


def _pad(text: str) -> str:
    """With numbers at equal length, so that figure9 comes before figure10."""
    return re.sub(r"\d+", lambda number: number.group().zfill(6), text)


def _arm(fields: object) -> Mapping:
    return {"arm": fields} if isinstance(fields, str) else dict(fields)
