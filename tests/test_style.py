"""Symptoms of unclear writing, counted over the package by `style.py`, stay within their bounds."""

import ast

import pytest
from style import (
    PACKAGE,
    constants,
    is_no_verb,
    is_packed,
    measure,
    modules,
)

BOUNDS = {
    "files at the root": 8,
    "packages at the root": 14,
    "vague names, percent": 1,
    "packed assignments, percent": 4,
    "lines over 100 columns, percent": 4,
    "functions that are no verb": 9,
    "constants with several meanings": 7,
    "function lines, median": 9,
    "function lines, p90": 22,
    "longest file": 400,
}


@pytest.fixture(scope="module")
def measured():
    return measure()


def test_every_count_has_a_bound(measured):
    assert set(measured) == set(BOUNDS)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_count_stays_within_its_bound(measured, name):
    assert measured[name] <= BOUNDS[name]


def test_unclear_writing_is_counted(tmp_path):
    (tmp_path / "leaf").mkdir()
    (tmp_path / "leaf" / "__init__.py").write_text("FEW = 1\n")
    (tmp_path / "other.py").write_text(
        "FEW = 2\n\n\ndef judged(one):\n    a, b = one, 2\n    return a + b\n"
        + f"x = '{'y' * 100}'\n"
    )
    counts = measure(tmp_path)
    assert (counts["files at the root"], counts["packages at the root"]) == (1, 1)
    assert counts["functions that are no verb"] == 1
    assert counts["constants with several meanings"] == 1
    assert counts["vague names, percent"] == pytest.approx(100 / 7)
    assert counts["packed assignments, percent"] == pytest.approx(25)
    assert counts["lines over 100 columns, percent"] == pytest.approx(100 / 6)


@pytest.mark.parametrize("name", ["judged", "_drawn", "older", "made"])
def test_a_participle_is_no_verb(name):
    assert is_no_verb(name)


@pytest.mark.parametrize("name", ["judge", "need_checkout", "seed_of", "ratio_of_gains"])
def test_a_verb_or_a_noun_is_none_of_them(name):
    assert not is_no_verb(name)


def test_a_chain_or_an_unpacked_call_is_not_packed():
    statements = ast.parse("a, b = f(x)\na = b = 1\na, b = 1, 2\n").body
    assert [is_packed(node) for node in statements] == [False, False, True]


def test_the_same_constant_with_one_value_has_one_meaning():
    assert all(constants(modules(PACKAGE)).values())
