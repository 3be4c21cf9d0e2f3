"""Every contrast against a dull loop over numbers in a dict, on tables that differ wherever two
could be mixed up.
"""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from replicate.claims import contrasts
from replicate.claims.cells import Absent, Cells
from replicate.claims.contrasts import CONTRASTS, Contrast, Least, Ratio

ARMS = ("trip", "average", "other", "constant")
WINDOWS = (1, 10, 100)
METRICS = ("loss", "top1", "length")
FIELDS = ("arm", "kernel", "k")
UNITS = [(seed, branch) for seed in range(3) for branch in range(2)]


def draw() -> tuple[pd.DataFrame, dict]:
    """A table whose every number is its own, in no order, and the same numbers by all that names
    them.
    """
    rng, rows, numbers = np.random.Generator(np.random.Philox(1)), [], {}
    cells = [*itertools.product(("digits", "cifar10"), ARMS, ("swa", "ema"), WINDOWS)]
    cells += [(dataset, "raw", "", k) for dataset in ("digits", "cifar10") for k in WINDOWS]
    for dataset, arm, kernel, k in cells:
        for seed, branch in UNITS:
            row = dict(zip(METRICS, rng.uniform(0.5, 2.0, 3), strict=True))
            rows.append(
                {
                    "dataset": dataset,
                    "arm": arm,
                    "kernel": kernel,
                    "k": k,
                    "seed": seed,
                    "branch": branch,
                    **row,
                }
            )
            for metric, number in row.items():
                numbers[dataset, arm, kernel, k, metric, (seed, branch)] = number
    return pd.DataFrame(rows).sample(frac=1, random_state=2), numbers


TABLE, NUMBERS = draw()
CELLS = Cells(TABLE, FIELDS)


def number(case: dict, arm: str, unit: tuple, metric: str = "loss", **other) -> float:
    """One number, looked up as plainly as can be; the raw run knows no kernel."""
    at = {**case, **other}
    kernel = "" if arm == "raw" else at["kernel"]
    return NUMBERS[at["dataset"], arm, kernel, at["k"], metric, unit]


def along(case: dict, unit: tuple) -> list[tuple[float, float]]:
    return [(number(case, "trip", unit, k=k), number(case, "average", unit, k=k)) for k in WINDOWS]


def slope(case: dict, unit: tuple) -> float:
    x = [math.log2(k) for k in WINDOWS]
    y = [math.log10(a / b) for a, b in along(case, unit)]
    return np.polyfit(x, y, 1)[0]


TWO = {"metric": "loss", "arms": ["trip", "average"]}
THREE = {"metric": "loss", "arms": ["trip", "average", "other"]}
FOUR = {"metric": "loss", "arms": ["trip", "average", "other", "raw"]}
A, B, C, D = "trip", "average", "other", "raw"

# name: what a claim asks, and per unit the number, or the pair of a ratio, or the several of a
# least.
DULL = {
    "value": ({"metric": "top1", "arms": [A]}, lambda c, u: number(c, A, u, "top1")),
    "exact": ({"metric": "top1", "arms": [A]}, lambda c, u: number(c, A, u, "top1")),
    "difference": (TWO, lambda c, u: number(c, A, u) - number(c, B, u)),
    "difference of differences": (
        FOUR,
        lambda c, u: number(c, A, u) - number(c, B, u) - number(c, C, u) + number(c, D, u),
    ),
    "ratio": (TWO, lambda c, u: (number(c, A, u), number(c, B, u))),
    "ratio per unit": (TWO, lambda c, u: number(c, A, u) / number(c, B, u)),
    "ratio of gains": (
        TWO | {"base": "raw"},
        lambda c, u: (number(c, D, u) - number(c, A, u), number(c, D, u) - number(c, B, u)),
    ),
    "ratio of differences": (
        FOUR,
        lambda c, u: (number(c, A, u) - number(c, B, u), number(c, C, u) - number(c, D, u)),
    ),
    "relative gain": (TWO, lambda c, u: 1 - number(c, A, u) / number(c, B, u)),
    "log10 ratio": (TWO, lambda c, u: math.log(number(c, A, u) / number(c, B, u)) / math.log(10)),
    "log2 ratio of times": (
        TWO | {"ends": "length"},
        lambda c, u: math.log2(number(c, A, u) / number(c, B, u)),
    ),
    "gain over the better": (
        THREE | {"better": "lower"},
        lambda c, u: min(number(c, B, u), number(c, C, u)) - number(c, A, u),
    ),
    "closest": (
        FOUR,
        lambda c, u: tuple(
            abs(number(c, r, u) - number(c, B, u)) - abs(number(c, A, u) - number(c, B, u))
            for r in (C, D)
        ),
    ),
    "slope": (TWO | {"over": "k", "scale": "log2"}, slope),
    "log10 ratio to the least": (
        THREE,
        lambda c, u: math.log10(number(c, A, u) / min(number(c, B, u), number(c, C, u))),
    ),
    "difference with room": (
        TWO | {"room": 0.25},
        lambda c, u: 0.25 + number(c, A, u) - number(c, B, u),
    ),
    "log10 distance": (TWO, lambda c, u: abs(math.log10(number(c, A, u) / number(c, B, u)))),
    "mean difference": (
        TWO | {"over": "k"},
        lambda c, u: sum(a - b for a, b in along(c, u)) / len(WINDOWS),
    ),
    "mean ratio": (
        TWO | {"over": "k"},
        lambda c, u: sum(a / b for a, b in along(c, u)) / len(WINDOWS),
    ),
    "share below": (
        TWO | {"over": "k"},
        lambda c, u: sum(a < b for a, b in along(c, u)) / len(WINDOWS),
    ),
    "least lag where the second moves": (
        TWO | {"over": "k"},
        lambda c, u: min(b - a for a, b in along(c, u) if b >= 1),
    ),
    "least difference": (TWO | {"over": "k"}, lambda c, u: min(a - b for a, b in along(c, u))),
}


DULL = {name: dull for name, dull in DULL.items() if name in CONTRASTS}
NEEDED = {name: contrasts.arms_of(name) for name in CONTRASTS}


def values(numbers) -> list[pd.Series]:
    """What a contrast gives, as series by unit."""
    if isinstance(numbers, Ratio):
        return [numbers.numerator, numbers.denominator]
    return list(numbers.of) if isinstance(numbers, Least) else [numbers]


def mistakes(asked: dict, name: str) -> list:
    """Cases and units in which the contrast of that name is not what the loop says."""
    contrast, dull, wrong = Contrast.read({"name": name, **asked}), DULL[name][1], []
    cases = contrast.cases(CELLS)
    if len(cases) != 4 * (1 if contrast.over else len(WINDOWS)):
        return ["cases"]
    for case in cases:
        of_units = [dict(series) for series in values(contrast.numbers(CELLS, case))]
        for unit in UNITS:
            expected = dull(case, unit)
            expected = expected if isinstance(expected, tuple) else (expected,)
            if [each[unit] for each in of_units] != pytest.approx(list(expected), rel=1e-12):
                wrong.append((case, unit))
    return wrong


def test_every_contrast_has_a_dull_twin():
    assert set(CONTRASTS) - set(DULL) == set()


@pytest.mark.parametrize("name", DULL)
def test_a_contrast_is_what_a_dull_loop_says(name):
    assert mistakes(DULL[name][0], name) == []


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (asked, _) in DULL.items()
        if len(asked["arms"]) > 1 and name != "log10 distance"
    ],
)
def test_exchanged_arms_would_be_noticed(name, monkeypatch):
    right = CONTRASTS[name]
    monkeypatch.setitem(
        CONTRASTS, name, lambda a, b, *more, **options: right(b, a, *more, **options)
    )
    monkeypatch.setattr(contrasts, "arms_of", NEEDED.get)
    assert mistakes(DULL[name][0], name)


@pytest.mark.parametrize("name", DULL)
def test_another_sign_would_be_noticed(name, monkeypatch):
    right = CONTRASTS[name]

    def negative(*arms, **options):
        numbers = right(*arms, **options)
        if isinstance(numbers, Ratio):
            return Ratio(-numbers.numerator, numbers.denominator)
        return (
            Least(tuple(-each for each in numbers.of)) if isinstance(numbers, Least) else -numbers
        )

    monkeypatch.setitem(CONTRASTS, name, negative)
    monkeypatch.setattr(contrasts, "arms_of", NEEDED.get)
    assert mistakes(DULL[name][0], name)


@pytest.mark.parametrize(
    "name",
    [name for name, (asked, _) in DULL.items() if "ratio of" in name and "times" not in name],
)
def test_exchanged_numerator_and_denominator_would_be_noticed(name, monkeypatch):
    right = CONTRASTS[name]

    def upside_down(*arms, **options):
        numbers = right(*arms, **options)
        return Ratio(numbers.denominator, numbers.numerator)

    monkeypatch.setitem(CONTRASTS, name, upside_down)
    monkeypatch.setattr(contrasts, "arms_of", NEEDED.get)
    assert mistakes(DULL[name][0], name)


@pytest.mark.parametrize("name", DULL)
def test_another_metric_would_be_noticed(name):
    asked = DULL[name][0]
    assert mistakes(asked | {"metric": "length"}, name)


@pytest.mark.parametrize(
    "name, place",
    [(name, place) for name, (asked, _) in DULL.items() for place in range(len(asked["arms"]))],
)
def test_another_arm_would_be_noticed(name, place):
    asked = DULL[name][0]
    arms = [*asked["arms"][:place], "constant", *asked["arms"][place + 1 :]]
    assert mistakes(asked | {"arms": arms}, name)


def test_another_base_would_be_noticed():
    assert mistakes(DULL["ratio of gains"][0] | {"base": "other"}, "ratio of gains")


# Which cases there are.


def test_an_arm_is_not_compared_with_itself():
    contrast = Contrast.read(
        {"name": "difference", "metric": "loss", "arms": ["trip", {"arm": "trip", "kernel": "ema"}]}
    )
    cases = contrast.cases(CELLS)
    with pytest.raises(Absent):
        contrast.numbers(CELLS, next(case for case in cases if case["kernel"] == "ema"))
    assert len(
        contrast.numbers(CELLS, next(case for case in cases if case["kernel"] == "swa"))
    ) == len(UNITS)


def test_a_case_is_called_by_the_fields_that_its_first_arm_leaves_open():
    contrast = Contrast.read({"name": "difference", **TWO})
    assert {frozenset(case) for case in contrast.cases(CELLS)} == {
        frozenset(("dataset", "kernel", "k"))
    }


def test_an_arm_that_names_a_field_is_taken_from_there_in_every_case():
    arms = ["trip", {"arm": "average", "kernel": "ema"}]
    contrast = Contrast.read({"name": "difference", "metric": "loss", "arms": arms})
    case = {"dataset": "digits", "kernel": "swa", "k": 10}
    gaps = dict(contrast.numbers(CELLS, case))
    assert gaps == {
        unit: number(case, "trip", unit) - number(case, "average", unit, kernel="ema")
        for unit in UNITS
    }


def test_where_holds_in_every_case_but_a_list_only_says_which_there_are():
    where = {"kernel": "ema", "k": [1, 10]}
    contrast = Contrast.read({"name": "difference", **TWO, "where": where})
    case = {"dataset": "digits", "kernel": "swa", "k": 10}
    gaps = dict(contrast.numbers(CELLS, case))
    of_ema = case | {"kernel": "ema"}
    assert gaps == {u: number(of_ema, "trip", u) - number(of_ema, "average", u) for u in UNITS}


def test_where_limits_the_cases():
    contrast = Contrast.read(
        {"name": "difference", **TWO, "where": {"kernel": "ema", "k": [1, 100]}}
    )
    cases = [(case["dataset"], case["kernel"], case["k"]) for case in contrast.cases(CELLS)]
    assert sorted(cases) == [
        (dataset, "ema", k) for dataset in ("cifar10", "digits") for k in (1, 100)
    ]


def test_a_contrast_runs_along_the_values_it_is_limited_to():
    contrast = Contrast.read(
        {"name": "slope", **TWO, "over": "k", "scale": "log2", "where": {"k": [1, 100]}}
    )
    assert {tuple(case["k"]) for case in contrast.cases(CELLS)} == {(1, 100)}


def test_rivals_that_did_not_run_are_left_out_but_not_all():
    asked = {"name": "closest", "metric": "loss", "arms": ["trip", "average", "nobody", "other"]}
    case = {"dataset": "digits", "kernel": "swa", "k": 10}
    assert len(Contrast.read(asked).numbers(CELLS, case).of) == 1
    with pytest.raises(Absent, match="no rival"):
        Contrast.read(asked | {"arms": ["trip", "average", "nobody"]}).numbers(CELLS, case)


def test_a_rival_of_another_kernel_that_did_not_run_is_left_out():
    lost = (TABLE.arm == "other") & (TABLE.kernel == "ema")
    arms = ["trip", "average", {"arm": "other", "kernel": "ema"}, "constant"]
    contrast = Contrast.read({"name": "closest", "metric": "loss", "arms": arms})
    case = {"dataset": "digits", "kernel": "swa", "k": 10}
    assert len(contrast.numbers(CELLS, case).of) == 2
    assert len(contrast.numbers(Cells(TABLE[~lost], FIELDS), case).of) == 1


def test_changes_are_merged_and_the_rest_stays():
    first = Contrast.read(
        {"name": "slope", **TWO, "over": "k", "scale": "log2", "where": {"kernel": "swa"}}
    )
    second = first.change({"where": {"dataset": "digits"}, "arms": ["other", "average"]})
    assert second.where == {"kernel": "swa", "dataset": "digits"} and second.options == {
        "scale": "log2"
    }
    assert [arm["arm"] for arm in second.arms] == ["other", "average"] and second.metric == "loss"
    assert first.where == {"kernel": "swa"}


def test_a_contrast_runs_along_nets_in_the_order_of_their_numbers():
    nets = TABLE.replace({"kernel": {"swa": "net10", "ema": "net9"}})
    contrast = Contrast.read({"name": "mean difference", **TWO, "over": "kernel"})
    cases = contrast.cases(Cells(nets, FIELDS))
    assert {tuple(case["kernel"]) for case in cases} == {("net9", "net10")}


def test_where_the_first_arm_lacks_units_is_left_out():
    lost = (TABLE.arm == "trip") & (TABLE.k == 10) & (TABLE.seed == 2)
    contrast = Contrast.read({"name": "mean difference", **TWO, "over": "k"})
    cases = contrast.cases(Cells(TABLE[~lost], FIELDS))
    assert {tuple(case["k"]) for case in cases} == {(1, 100)}
