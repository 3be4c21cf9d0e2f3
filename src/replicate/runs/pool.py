"""What of a recorded file counts: of each data set one digest of the code and one set of settings,
of each seed one result.

Results of other code, other settings, or of a seed that is there already stay in the file, named,
and are not used. The choice depends on what the file holds and on the history of the commits, not
on clocks or on the order of recording.
"""

import json
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

SEEDS = "seeds"  # the one setting that a pool leaves open: more seeds of the same settings join it


def select_counted(
    table: pd.DataFrame,
    records: Mapping[str, dict],
    code: Callable[[Mapping], str],
    history: Sequence[str],
) -> pd.DataFrame:
    """The rows that count, in the order of the file.

    table: has columns dataset and key; records: key -> provenance; code: provenance -> today's
    digest of the code that it used; history: commits from the newest on. Code that was carried to
    today's digest counts as today's; where there is none of today's, the newest commit's code
    counts.
    """
    chosen = []
    for _, rows in table.groupby("dataset", sort=False):
        keys = _keys_that_count(sorted(rows.key.unique()), records, code, history)
        chosen.append(_one_result_per_seed(rows[rows.key.isin(keys)], keys))
    return pd.concat(chosen).sort_index() if chosen else table


def is_of_today(record: Mapping, code: Callable[[Mapping], str]) -> bool:
    """Whether a result was made by today's code, or carried to it."""
    return code(record) in (record["code"], *record.get("carried", ()))


def without_seeds(settings: Mapping) -> str:
    """Settings as text, without their seeds: what results of one pool share."""
    return json.dumps(
        {name: value for name, value in settings.items() if name != SEEDS}, sort_keys=True
    )


def _keys_that_count(
    keys: list[str],
    records: Mapping[str, dict],
    code: Callable[[Mapping], str],
    history: Sequence[str],
) -> list[str]:
    """Keys of one digest and of the same settings but for their seeds, today's code first."""
    today = [key for key in keys if is_of_today(records[key], code)]
    newest = min(today or keys, key=lambda key: (_age(records[key], history), key))
    of_one_code = today or [key for key in keys if records[key]["code"] == records[newest]["code"]]
    settings = without_seeds(records[newest].get("settings", {}))
    return [
        key for key in of_one_code if without_seeds(records[key].get("settings", {})) == settings
    ]


def _age(record: Mapping, history: Sequence[str]) -> int:
    """The number of commits since the one that made a result; larger than any for a commit that
    history lacks.
    """
    commit = record.get("commit", "")
    return history.index(commit) if commit in history else len(history)


def _one_result_per_seed(results: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows of the first key in order, and of further keys those of seeds that are not there
    yet.
    """
    if "seed" not in results:
        return results[results.key == keys[0]]
    seen: set = set()
    chosen = []
    for key in keys:
        rows = results[results.key == key]
        new = rows[~rows.seed.isin(seen)] if seen else rows
        seen |= set(rows.seed.dropna())
        chosen.append(new)
    return pd.concat(chosen)
