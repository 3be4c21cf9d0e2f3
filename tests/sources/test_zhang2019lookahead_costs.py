"""Seconds of a step and of nonlinear acceleration: what is timed is what it is called, the clock's numbers
become the table's, and the claims are told on seconds whose truth is known.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lookahead_loops import SMALL, Plain

from replicate import claims, numerics, training
from replicate.app import registry
from replicate.sources.zhang2019lookahead import _networks, costs
from replicate.sources.zhang2019lookahead.presets import PRESETS

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)
SETTINGS = replace(SMALL, lr=0.05)
POWER = {"weights": 2.0, "weights again": 2.0, "one product": 1.0}
STEP = {"sgd": 3.0, "sgd again": 3.3, "lookahead": 3.6, "lookahead, k = 1": 9.0}


@pytest.fixture
def clocked(monkeypatch) -> list[dict]:
    """Jobs that were handed to the clock; it runs each once and says seconds that are known."""
    handed = []

    def clock(jobs, rounds, *_):
        handed.append(dict(jobs))
        known = {
            name: STEP[name] if name in STEP else 1e-4 * name[1] ** POWER[name[0]] for name in jobs
        }
        return {name: known[name] * np.array([1.0, 0.5, 40.0]) for name in jobs}

    monkeypatch.setattr(numerics, "clock", clock)
    return handed


def test_medians_become_seconds_of_a_step_and_powers_of_k(clocked, tmp_path):
    table = costs.time_run(SETTINGS, {"seed": 0}, tmp_path, [], "cpu").set_index("arm")
    for arm, seconds in STEP.items():
        assert table.seconds[arm] == pytest.approx(seconds / SETTINGS.k)
    for arm, power in POWER.items():
        assert table.per_doubling[arm] == pytest.approx(power)
        assert table.seconds[arm] == pytest.approx(1e-4 * 128**power)


def test_every_job_is_the_training_that_it_is_called(clocked, tmp_path, monkeypatch):
    made = []
    make = _networks.Run
    monkeypatch.setattr(_networks, "Run", lambda *given: made.append(make(*given)) or made[-1])
    costs.time_run(SETTINGS, {"seed": 0}, tmp_path, [], "cpu")
    steps = clocked[0]
    about = {"seed": 0, "schedule": "constant", "lr": SETTINGS.lr}
    for run, (arm, job) in zip(made, steps.items(), strict=True):
        job(), job()
        k = 1 if arm.endswith("k = 1") else SETTINGS.k
        plain = Plain(
            replace(SETTINGS, steps=2 * SETTINGS.k if SETTINGS.k > 1 else 2),
            about | {"method": arm.split(",")[0].split()[0], "k": k},
        )
        ends = np.concatenate([p.reshape(-1).numpy() for p in plain.seen[-1]])
        assert training.flat_weights(run.model).numpy() == pytest.approx(ends, abs=2e-4)


def test_the_weights_of_k_residuals_are_timed_on_k_of_them(clocked, tmp_path, monkeypatch):
    costs.time_run(SETTINGS, {"seed": 0}, tmp_path, [], "cpu")
    for (arm, count), job in clocked[1].items():
        assert job().shape == (count,), arm


def judged(
    times: dict, power: float = 2.0, spread: float = 0.003, setting: str = "stand-in"
) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = []
    for seed in range(8):
        for arm, seconds in times.items():
            row = {
                "seed": seed,
                "arm": arm,
                "seconds": seconds * np.exp(spread * draw.standard_normal()),
            }
            powers = {"one product": 1.0, "weights": power, "weights again": power}
            rows.append(
                row | {"per_doubling": powers.get(arm, np.nan) + 0.05 * draw.standard_normal()}
            )
    table = pd.DataFrame(rows).assign(commit="", device="", setting=setting, dataset="digits")
    tables = lambda each: table if each.name == "costs" else pd.DataFrame()  # noqa: E731
    decide = registry.decide(SOURCE, tables, PRESETS["cpu"])
    told = claims.judge(SOURCE.name, CLAIMS, claims.measure(CLAIMS, decide), "cpu")
    return told[told.role == "primary"].set_index("claim")


EVEN = {"sgd": 1.0, "sgd again": 1.0, "lookahead": 1.0, "lookahead, k = 1": 1.2}
EVEN |= {"weights": 1.0, "weights again": 1.0, "one product": 0.1}


def test_the_claims_are_told_on_seconds_whose_truth_is_known():
    assert judged(EVEN).verdict["LOOK-24.seconds"] == "reproduced"
    assert judged(EVEN).control_verdict["LOOK-24.seconds"] == "fails"
    assert judged(EVEN | {"lookahead": 1.1}).verdict["LOOK-24.seconds"] == "contradicted"
    assert judged(EVEN, spread=0.1).verdict["LOOK-24.seconds"] == "inconclusive"


def test_a_count_of_operations_is_contradicted_by_no_seconds_elsewhere():
    elsewhere, there = judged(EVEN, power=1.2), judged(EVEN, power=1.2, setting="the source's")
    assert elsewhere.verdict["LOOK-03c.cost"] == "inconclusive"
    assert there.verdict["LOOK-03c.cost"] == "contradicted"
    square = judged(EVEN, setting="the source's")
    assert square.verdict["LOOK-03c.cost"] == "reproduced"
    assert square.control_verdict["LOOK-03c.cost"] == "fails"


def test_a_clock_that_is_not_level_decides_nothing():
    rows = judged(EVEN | {"sgd again": 1.3, "weights again": 0.7})
    assert set(rows.verdict[["LOOK-24.seconds", "LOOK-03c.cost"]]) == {"inconclusive"}
