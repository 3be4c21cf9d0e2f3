"""Sweeps of rates and the forms of a loss against the printed loops over rows."""

from dataclasses import replace

import numpy as np
import pytest
from test_warmerdam2020descent_twins import TINY, costs, run, sampled

from replicate.sources.warmerdam2020descent import forms, rates

SETTINGS = replace(
    TINY, form_rows=30, sweep=(0.001, 0.02, 0.3), sweep_seeds=(3,),
    sweep_arms=("SGD", "ADAM", "KS_50_2 corrected", "KV_10 published"),
)  # fmt: skip


def height(arm: str, lr: float, rows: int) -> float:
    """The mean log loss of a loop over the budget in forward-equivalents."""
    history = run(arm, lr, 3, SETTINGS, rows=rows)
    cost = costs(history, arm)["forward-equivalents"]
    return float(np.mean(sampled(history, cost, 3 * SETTINGS.steps)))


def test_every_rate_of_a_sweep_has_the_height_of_a_printed_loop():
    table = rates.sweep_rates(SETTINGS, {"seed": 3}, None, [], "cpu").set_index(["arm", "lr"])
    assert len(table) == 4 * 3 and table.height.nunique() > 9
    for arm, lr in table.index:
        assert table.height[arm, lr] == pytest.approx(height(arm, lr, SETTINGS.rows), abs=1e-6)


def test_every_form_has_the_height_of_a_printed_loop_and_single_precision_nearly():
    table = forms.run_forms(SETTINGS, {"seed": 3}, None, [], "cpu").set_index(["arm", "form"])
    assert set(table.index) == {(arm, form) for arm, of in forms.FORMS.items() for form in of}
    for arm, form in table.index:
        expected = height(arm, SETTINGS.lr, SETTINGS.form_rows)
        single = form == "rows float32"
        assert table.height[arm, form] == pytest.approx(expected, abs=1e-3 if single else 1e-6)
        assert not single or abs(table.height[arm, form] - expected) > 1e-12
