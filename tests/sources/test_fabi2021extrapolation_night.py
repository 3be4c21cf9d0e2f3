"""What preset night runs on Imagewoof is what its rows compare, controls included."""

from itertools import chain

import pytest

from replicate.app import registry
from replicate.sources.fabi2021extrapolation import rate_curves
from replicate.sources.fabi2021extrapolation.presets import PRESETS

SOURCE = registry.source("fabi2021extrapolation")
WOOF = PRESETS["night"]["imagewoof-64"]
ROWS = {claim.id: claim for claim in registry.claims_of(SOURCE) if claim.primary.get("night")}
PROMISED = ("EXTRA-16", "EXTRA-17", "EXTRA-18", "EXTRA-19", "EXTRA-20", "EXTRA-28")


def compared(claim) -> list[dict]:
    """The arms of a row and of its control as mappings, with the regime that each is looked up in."""
    sides = (claim.contrast, claim.control, claim.level)
    arms = chain.from_iterable(side.get("arms", ()) for side in sides)
    regime = {"regime": claim.primary["night"].get("regime", "")}
    return [regime | (arm if isinstance(arm, dict) else {"arm": arm}) for arm in arms]


@pytest.mark.parametrize("wanted", PROMISED)
def test_every_row_of_the_promised_figure_is_decided_there(wanted):
    promised = [
        claim
        for claim in registry.claims_of(SOURCE)
        if claim.id.startswith(wanted) and SOURCE[claim.experiment].needs_data
    ]
    cases = [claim.primary.get("night", {}).get("dataset") for claim in promised]
    assert cases and set(cases) == {"imagewoof-64"}


@pytest.mark.parametrize(
    "name", [name for name, row in ROWS.items() if row.experiment == "networks"]
)
def test_every_arm_of_a_row_runs_at_the_rates_that_its_regime_needs(name):
    for side in compared(ROWS[name]):
        assert side["arm"] in WOOF.arms
        if side["regime"] != "source":
            assert side["arm"] in WOOF.searched


@pytest.mark.parametrize(
    "name", [name for name, row in ROWS.items() if row.experiment == "rate_curves"]
)
def test_every_curve_over_rates_has_its_arm_and_its_rates(name):
    made = ("best of plain", "the source's")
    for side in compared(ROWS[name]):
        assert side["arm"] in made or side["arm"] in set(WOOF.searched) & set(rate_curves.ARMS)
        assert side.get("lr", WOOF.lr) in WOOF.rates
