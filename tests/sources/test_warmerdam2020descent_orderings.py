"""Who is to be below whom in every row on Figures 9 to 13, written once more, on tables in which every
cell is different: true, false and shuffled.
"""

import itertools

import numpy as np
import pandas as pd
import pytest

from replicate import claims
from replicate.app import registry
from replicate.sources.warmerdam2020descent import _curves, _judging

SOURCE = registry.source("warmerdam2020descent")
CLAIMS = {claim.id: claim for claim in registry.claims_of(SOURCE)}
SEEDS = 10
FIELDS = ("arm", "rate", "start", "axis")
FIGURES = ("figure9", "figure10", "figure11", "figure12", "figure13")
GRADIENTS, FORWARDS, SECONDS = _curves.AXES
LOSS, COST = "mean log loss", "cost to -2"
PRINTED, MEANT, BLUNT = "KS_50_2 published", "KS_50_2 corrected", "KS_50_0 published"

# claim: figures, the arm that is to be below, the other one, rate, axis, metric. An arm may name its
# own rate.
BELOW = {
    "KEEP-11": ("figure9", BLUNT, "SGD", "source", GRADIENTS, LOSS),
    "KEEP-13.sgd": (FIGURES, BLUNT, "SGD", "source", SECONDS, LOSS),
    "KEEP-14.published": ("figure9", PRINTED, "ADAM", "source", SECONDS, LOSS),
    "KEEP-14.corrected": ("figure9", MEANT, "ADAM", "source", SECONDS, LOSS),
    "KEEP-15.published": ("figure10", PRINTED, "ADAM", "source", SECONDS, LOSS),
    "KEEP-15.ahead": ("figure10", MEANT, "ADAM", "source", SECONDS, LOSS),
    "KEEP-16.published": ("figure11", PRINTED, "ADAM", "source", SECONDS, LOSS),
    "KEEP-16.corrected": ("figure11", MEANT, "ADAM", "source", SECONDS, LOSS),
    "KEEP-17.published": ("figure12", PRINTED, "ADAM", "source", SECONDS, LOSS),
    "KEEP-17.corrected": ("figure12", MEANT, "ADAM", "source", SECONDS, LOSS),
    "KEEP-18.published": ("figure13", PRINTED, "ADAM", "source", SECONDS, LOSS),
    "KEEP-18.corrected": ("figure13", MEANT, "ADAM", "source", SECONDS, LOSS),
    "KEEP-19.published": (FIGURES, PRINTED, "ADAM", "source", SECONDS, LOSS),
    "KEEP-19.corrected": (FIGURES, MEANT, "ADAM", "source", SECONDS, LOSS),
    "KEEP-19.tuned": (FIGURES, MEANT, "ADAM", "tuned", SECONDS, LOSS),
    "KEEP-20.published": (FIGURES, PRINTED, "KV_50 published", "source", SECONDS, LOSS),
    "KEEP-20.corrected": (FIGURES, MEANT, "KV_50 published", "source", SECONDS, LOSS),
    "KEEP-20.formula": ("figure9", "KV_50 corrected", "KV_50 published", "source", SECONDS, LOSS),
    "KEEP-23.pays": ("figure9", MEANT, "SGD", "source", SECONDS, COST),
    "KEEP-23.tuned": ("figure9", MEANT, "SGD", "tuned", SECONDS, COST),
    "KEEP-27.steps": ("figure9", BLUNT, "KS_10_0 published", "source", SECONDS, LOSS),
    "KEEP-27.impatience": ("figure9", MEANT, "KS_50_0 corrected", "source", SECONDS, LOSS),
    "Y9.gain": ("figure9", "KS_50_2 rollback", MEANT, "source", SECONDS, LOSS),
    "BEYOND-enlarger": ("figure10", ("SGD", "enlarged"), MEANT, "source", FORWARDS, LOSS),
    "BEYOND-search.exact": ("figure9", "EXACT", MEANT, "tuned", GRADIENTS, LOSS),
    "BEYOND-search.armijo": ("figure9", "ARMIJO", MEANT, "tuned", SECONDS, LOSS),
    "BEYOND-search.lbfgs": ("figure9", "LBFGS", MEANT, "tuned", SECONDS, LOSS),
}
ABOVE = ("KEEP-20.formula",)  # rows that are what the upper arm exceeds the lower by


def blank(figures: tuple[str, ...], arms: set[str]) -> pd.DataFrame:
    """One row per cell and seed, as the curves are judged, every number drawn for its cell."""
    noise = np.random.Generator(np.random.Philox(8))
    cells = [
        *itertools.product(figures, sorted(arms), _curves.RATE_KINDS, _curves.STARTS, _curves.AXES)
    ]
    table = pd.DataFrame(cells, columns=["dataset", *FIELDS])
    for metric in _judging.METRICS:
        table[metric] = noise.uniform(20, 90, len(table))
    table = table.assign(at_edge=0).merge(pd.DataFrame({"seed": range(SEEDS)}), "cross")
    table["price again"] = table.price * noise.uniform(0.98, 1.02, len(table))
    return table


def judge(claim: str, table: pd.DataFrame) -> pd.Series:
    """The primary row at preset cpu, its family beside it."""
    decided = claims.Decided(table.assign(commit="", device="", setting=""), FIELDS, {})
    measured = claims.measure([CLAIMS[claim]], lambda names: decided)
    rows = claims.judge(SOURCE.name, CLAIMS.values(), measured, "cpu")
    (only,) = [row for _, row in rows[rows.claim == claim].iterrows() if row.role == "primary"]
    return only


def fill(claim: str, kind: str) -> tuple[pd.DataFrame, float]:
    """A table in which the claim is true, false, or its arms are shuffled, and what its contrast
    comes to.
    """
    figures, lower, upper, rate, axis, metric = BELOW[claim]
    figures = (figures,) if isinstance(figures, str) else figures
    arms = [arm if isinstance(arm, tuple) else (arm, rate) for arm in (lower, upper)]
    table = blank(figures, {arm for arm, _ in arms} | {"SGD", "KV_10 published"})
    noise = np.random.Generator(np.random.Philox(2))
    shape = (len(figures), SEEDS)
    pair = np.stack([noise.uniform(2, 3, shape), noise.uniform(7, 9, shape)])
    pair = (
        pair[::-1]
        if kind == "false"
        else noise.permuted(pair, axis=0)
        if kind == "shuffled"
        else pair
    )
    for (arm, own), numbers in zip(arms, pair, strict=True):
        rates = _curves.NEIGHBOURS if own == "tuned" else (own,)
        for (figure, values), each in itertools.product(zip(figures, numbers, strict=True), rates):
            cell = (table.dataset == figure) & (table.arm == arm) & (table.rate == each)
            cell &= (table.start == "source") & (table.axis == axis)
            table.loc[cell, metric] = values
    a, b = pair
    if len(figures) > 1:
        return table, (a < b).mean()
    return table, (np.log10(a / b) if metric == COST else b - a if claim in ABOVE else a - b).mean()


@pytest.mark.parametrize("claim", BELOW)
def test_a_row_says_who_is_to_be_below_whom(claim):
    found = {}
    for kind in ("true", "false", "shuffled"):
        table, value = fill(claim, kind)
        found[kind] = judge(claim, table)
        assert found[kind].value == pytest.approx(value), kind
    assert found["true"].verdict == "reproduced" and found["false"].verdict == "contradicted"
    assert found["shuffled"].verdict != "reproduced"


def test_every_ordering_of_two_arms_is_written_once_more():
    """But for those that have tests of their own among the claims'."""
    orderings = {
        name
        for name, claim in CLAIMS.items()
        if claim.kind == "ordering"
        and any(each.startswith("figure_") for each in claim.experiments)
        and claim.contrast["name"] in ("difference", "share below", "log10 ratio")
    }
    assert orderings - set(BELOW) == {"KEEP-15.slower", "KEEP-21.slower"}


@pytest.mark.parametrize("gap, verdict", [(0.0, "reproduced"), (0.5, "contradicted")])
def test_published_walks_are_sgd_per_gradient_within_a_margin(gap, verdict):
    table = blank(("figure9",), {PRINTED, MEANT, "SGD"})
    chosen = (table.rate == "source") & (table.start == "source") & (table.axis == GRADIENTS)
    for arm, level in ((PRINTED, -3.0 - gap), ("SGD", -3.0), (MEANT, -9.0)):
        table.loc[chosen & (table.arm == arm), LOSS] = level + 0.001 * (table.seed % 2) * (
            arm == "SGD"
        )
    decided = judge("Y6.same", table)
    assert (decided.verdict, decided.control_verdict) == (verdict, "fails")
    assert decided.value == pytest.approx(-gap - 0.0005)


@pytest.mark.parametrize("kept, verdict", [(0.5, "reproduced"), (9.0, "contradicted")])
def test_the_lead_shrinks_without_a_plateau(kept, verdict):
    """The lead over SGD from the source's start less that from orthogonal weights."""
    table = blank(("figure9",), {MEANT, "SGD"})
    levels = {
        ("SGD", "source"): 5.0,
        (MEANT, "source"): 1.0,
        ("SGD", "orthogonal"): 1.0 + kept,
        (MEANT, "orthogonal"): 1.0,
    }
    for (arm, start), level in levels.items():
        chosen = (table.arm == arm) & (table.start == start) & (table.rate == "source")
        chosen &= table.axis == GRADIENTS
        table.loc[chosen, LOSS] = level + 0.01 * table.seed * (arm == "SGD") * (start == "source")
    decided = judge("BEYOND-plateau", table)
    assert decided.verdict == verdict and decided.value == pytest.approx(4.0 + 0.045 - kept)
