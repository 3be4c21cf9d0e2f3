"""What of a recorded file counts: one digest, one set of settings, one result per seed, whatever
the order and clock.
"""

import itertools

import pandas as pd
import pytest

from replicate.runs.pool import is_of_today, select_counted, without_seeds

HISTORY = ("new", "middle", "old")


def record(code="today", commit="new", lr=0.1, seeds=(0,), **more):
    return {"code": code, "commit": commit, "settings": {"lr": lr, "seeds": list(seeds)}, **more}


def rows(key, seeds, loss, dataset="digits"):
    return pd.DataFrame({"dataset": dataset, "key": key, "seed": list(seeds), "loss": float(loss)})


def today(record):
    return "today"


def keys(table, records):
    return select_counted(table, records, today, HISTORY).key.tolist()


def test_more_seeds_of_the_same_settings_join():
    table = pd.concat([rows("a", (0, 1), 1), rows("b", (2, 3), 2)], ignore_index=True)
    records = {"a": record(seeds=(0, 1)), "b": record(seeds=(2, 3))}
    assert sorted(select_counted(table, records, today, HISTORY).seed) == [0, 1, 2, 3]


def test_a_seed_counts_once():
    table = pd.concat([rows("a", (0, 1), 1), rows("b", (1, 2), 2)], ignore_index=True)
    records = {"a": record(seeds=(0, 1)), "b": record(seeds=(1, 2))}
    chosen = select_counted(table, records, today, HISTORY)
    assert chosen.seed.tolist() == [0, 1, 2] and chosen.loss.tolist() == [1, 1, 2]


def test_the_order_of_recording_changes_nothing():
    parts = {"a": rows("a", (0, 1), 1), "b": rows("b", (1, 2), 2), "c": rows("c", (0, 3), 3)}
    records = {key: record(seeds=part.seed) for key, part in parts.items()}
    results = [select_counted(pd.concat([parts[k] for k in order], ignore_index=True), records, today, HISTORY)
               for order in itertools.permutations(parts)]  # fmt: skip
    pairs = [sorted(zip(each.seed, each.loss, strict=True)) for each in results]
    assert all(each == pairs[0] for each in pairs) and len(pairs[0]) == 4


def test_today_s_code_counts_before_newer_commits():
    table = pd.concat([rows("a", (0,), 1), rows("b", (0,), 2)], ignore_index=True)
    assert keys(table, {"a": record("other", "new"), "b": record("today", "old")}) == ["b"]


def test_without_today_s_code_the_newest_commit_counts():
    table = pd.concat([rows(key, (0,), 1) for key in "abc"], ignore_index=True)
    records = {"a": record("x", "old"), "b": record("y", "new"), "c": record("z", "middle")}
    assert keys(table, records) == ["b"]


def test_a_clock_in_the_future_counts_nothing():
    table = pd.concat([rows("a", (0,), 1), rows("b", (0,), 2)], ignore_index=True)
    records = {
        "a": record("x", "old", written="9999-01-01T00:00:00Z"),
        "b": record("y", "new", written="1970"),
    }
    assert keys(table, records) == ["b"]


def test_a_commit_that_history_lacks_comes_last():
    table = pd.concat([rows("a", (0,), 1), rows("b", (0,), 2)], ignore_index=True)
    assert keys(table, {"a": record("x", "elsewhere"), "b": record("y", "old")}) == ["b"]


def test_other_settings_do_not_pool():
    table = pd.concat([rows("a", (0,), 1), rows("b", (1,), 2)], ignore_index=True)
    records = {"a": record(lr=0.1, commit="new"), "b": record(lr=7.0, commit="old")}
    assert keys(table, records) == ["a"]


def test_carried_code_counts_as_today_s():
    table = pd.concat([rows("a", (0,), 1), rows("b", (1,), 2)], ignore_index=True)
    records = {"a": record("before", carried=["today"]), "b": record("today", seeds=(1,))}
    assert keys(table, records) == ["a", "b"]
    assert is_of_today(records["a"], today) and not is_of_today(record("before"), today)


def test_data_sets_are_chosen_apart():
    table = pd.concat([rows("a", (0,), 1), rows("b", (0,), 2, "cifar10")], ignore_index=True)
    assert sorted(keys(table, {"a": record("x", "old"), "b": record()})) == ["a", "b"]


def test_a_table_without_seeds_counts_once():
    table = pd.concat([rows("a", (0,), 1), rows("b", (0,), 2)], ignore_index=True).drop(
        columns="seed"
    )
    assert keys(table, {"a": record(), "b": record()}) == ["a"]


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"width": 3}])
def test_only_seeds_leave_the_settings(change):
    settings = {"lr": 0.1, "seeds": [0, 1]}
    assert without_seeds(settings) == without_seeds(settings | {"seeds": [5]})
    assert without_seeds(settings) != without_seeds(settings | change)
