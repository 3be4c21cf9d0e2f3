"""A table as cells: each arm of each case holds one number per unit and metric.

A cell is chosen by fields, such as {"arm": "average", "kernel": "swa", "k": 100}. Rows that are
blank in a field ("" or NaN) belong to every value of it: a main run that knows no kernel is the
same for all kernels.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

import pandas as pd

UNITS = ["dataset", "seed", "branch"]


class Absent(Exception):
    """A cell that the table does not have: the arm was not run in this case."""


class Cells:
    """One table, or several below each other, by cell.

    table: columns dataset, seed and branch (0 where missing), the fields, and the metrics. A row
    with a number in `diverged` stands for a unit that was lost: it is NaN in every cell of its data
    set.
    """

    def __init__(self, table: pd.DataFrame, fields: Sequence[str]):
        self.fields = ("dataset", *fields)
        table = table.assign(**{name: 0 for name in ("seed", "branch") if name not in table})
        table = table.assign(**{name: None for name in self.fields if name not in table})
        lost = (
            table["diverged"].notna()
            if "diverged" in table
            else pd.Series(False, index=table.index)
        )
        self._origins: dict[str | None, dict[str, str]] = {}
        self._lost = table.loc[lost, UNITS].drop_duplicates()
        keys = table.loc[~lost, list(self.fields)]
        self._table = table[~lost].set_index(["seed", "branch"], drop=False)
        self._rows = keys.groupby(list(self.fields), dropna=False, sort=False).indices
        if len(self.fields) == 1:  # then pandas gives the values themselves, not tuples of one
            self._rows = {(key,): rows for key, rows in self._rows.items()}
        self._rows = {
            tuple(_blank(value) for value in key): rows for key, rows in self._rows.items()
        }

    def values(self, chosen: Mapping[str, object], metric: str) -> pd.Series:
        """The numbers of one cell by (seed, branch), sorted. Raises Absent."""
        if metric not in self._table:
            raise Absent(f"no column {metric}")
        series = self._table[metric].iloc[self._rows[self._key(chosen)]].astype(float)
        lost = (
            self._lost[self._lost.dataset == chosen["dataset"]] if len(self._lost) else self._lost
        )
        if len(lost):
            series = series.reindex(
                series.index.append(pd.MultiIndex.from_frame(lost[["seed", "branch"]]))
            )
        return series.sort_index()

    def cases(
        self, chosen: Mapping[str, object], free: Sequence[str], filled: Collection[str] = ()
    ) -> list[dict]:
        """The distinct values of the free fields among the cells that agree with `chosen`, in the
        order of the table.

        filled: fields in which a cell must not be blank, as it would agree with every value there.
        """
        distinct: dict[tuple, dict] = {}
        for key in self._rows:
            cell = dict(zip(self.fields, key, strict=True))
            agrees = all(
                _agree(value, cell[name]) for name, value in chosen.items() if name in cell
            )
            if agrees and all(cell[name] is not None for name in filled):
                case = {name: cell[name] for name in free}
                distinct.setdefault(tuple(case.values()), case)
        return list(distinct.values())

    def origin(self, dataset: object) -> dict[str, str]:
        """Commit, device and setting of the rows of a data set; of all rows if it is no text."""
        key = dataset if isinstance(dataset, str) else None
        if key not in self._origins:
            rows = self._table if key is None else self._table[self._table.dataset == key]
            self._origins[key] = {
                name: _join(rows, name) for name in ("commit", "device", "setting")
            }
        return dict(self._origins[key])

    def _key(self, chosen: Mapping[str, object]) -> tuple:
        wanted = [_blank(chosen.get(name)) for name in self.fields]
        for key in _with_blanks(wanted):
            if key in self._rows:
                return key
        raise Absent(f"no cell {dict(chosen)}")


def _join(rows: pd.DataFrame, name: str) -> str:
    """The distinct texts of a column; "" without it."""
    return ", ".join(sorted(set(rows[name].dropna()))) if name in rows else ""


def _with_blanks(wanted: list) -> Iterator[tuple]:
    """The key as it is, then with one field blank, then with two, ...: the most particular rows
    count.
    """
    for count in range(len(wanted) + 1):
        for places in combinations(range(len(wanted)), count):
            yield tuple(None if i in places else value for i, value in enumerate(wanted))


def _agree(wanted: object, value: object) -> bool:
    if value is None:  # a blank belongs to every value
        return True
    return value in wanted if isinstance(wanted, list) else _blank(wanted) == value


def _blank(value: object) -> object:
    return (
        None
        if value is None or value == "" or (isinstance(value, float) and value != value)
        else value
    )
