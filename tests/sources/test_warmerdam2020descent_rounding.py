"""What another processor's rounding may do to a word: nothing."""

from dataclasses import replace

import numpy as np
import pytest

from replicate import claims, descent, paths, training
from replicate.app import registry
from replicate.streams import rng

SOURCE = registry.source("warmerdam2020descent")
CLAIMS = registry.claims_of(SOURCE)
SEEDS = 10
PRICES = {
    "forward": 2.2,
    "check": 2.1,
    "printed check": 2.9,
    "backward": 2.5,
    "step": 0.13,
    "adam": 0.7,
}


def say_prices(model, x, y, repeats) -> dict[str, np.ndarray]:
    """The clock's prices, the same for everyone."""
    return {
        part + turn: np.full(repeats, s) for part, s in PRICES.items() for turn in ("", " again")
    }


def words() -> dict[str, str]:
    """Primary verdicts of every row on Figure 9 alone."""
    settings = replace(SOURCE.presets["cpu"]["figure9"], seeds=tuple(range(SEEDS)))
    table = SOURCE["figure_9"](settings).assign(dataset="figure9", commit="", device="")
    table = table.assign(setting="the source's")
    chosen = [claim for claim in CLAIMS if "figure_9" in claim.experiments]
    decided = registry.decide(
        SOURCE, lambda each: table if each.name == "figure_9" else table.iloc[:0]
    )
    rows = claims.primary_rows(
        claims.judge(SOURCE.name, CLAIMS, claims.measure(chosen, decided), "cpu")
    )
    return dict(zip(rows.claim, rows.verdict, strict=True))


@pytest.mark.long
def test_starting_weights_that_differ_in_the_seventh_digit_change_no_word(tmp_path, monkeypatch):
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.setattr(training.full_batch, "clock", say_prices)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "as it is")
    before = words()
    start = descent.initial_weights

    def move(net, seed, dtype="float64"):
        weights = start(net, seed, "float64")
        moved = weights * (1 + 1e-7 * rng(seed, "noise", 77).choice([-1.0, 1.0], len(weights)))
        return moved.astype(dtype)

    monkeypatch.setattr(descent, "initial_weights", move)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "moved")
    after = words()
    assert {
        name: (before[name], after[name]) for name in before if before[name] != after[name]
    } == {}
    assert len(before) > 10 and {"reproduced", "contradicted"} <= set(before.values())
