"""Means of weights, of functions, and nonlinear acceleration: each arm by a loop written out, and the
claims against tables whose truth is known.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lookahead_loops import SMALL, Plain
from torch.nn import functional

from replicate import claims, training
from replicate.app import registry
from replicate.problems import accelerate
from replicate.sources.zhang2019lookahead import _networks, combinations
from replicate.sources.zhang2019lookahead.presets import PRESETS

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)
POINT = {"seed": 0, "schedule": "decayed"}
SETTINGS = replace(SMALL, lr=0.05)
PLACES = [7, 8, 9, 10, 11, 12]  # after half of twelve steps, every step


@pytest.fixture(scope="module")
def arms(tmp_path_factory) -> pd.DataFrame:
    table = combinations.combine_run(SETTINGS, POINT, tmp_path_factory.mktemp("run"), [], "cpu")
    return table.set_index("arm")


@pytest.fixture(scope="module")
def plain() -> Plain:
    return Plain(SETTINGS, {"method": "sgd", "lr": SETTINGS.lr} | POINT)


def unflatten(plain, vector) -> list:
    vector, parts = torch.as_tensor(vector), []
    for p in plain.model.parameters():
        parts.append(vector[: p.numel()].view_as(p).to(p.dtype))
        vector = vector[p.numel() :]
    return parts


def flatten(weights) -> np.ndarray:
    return torch.cat([p.reshape(-1) for p in weights]).double().numpy()


def combine(iterates: np.ndarray, ridge: float) -> np.ndarray:
    """The weights by the conditions of the constrained minimum, with a multiplier for their sum."""
    r = np.diff(iterates, axis=0)
    k, gram = len(r), r @ r.T
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = 2 * (gram + ridge * np.linalg.eigvalsh(gram).max() * np.eye(k))
    system[:k, k] = system[k, :k] = 1
    c = np.linalg.solve(system, [*np.zeros(k), 1])[:k]
    return c @ iterates[:-1]


def test_iterates_are_at_equal_distances_in_the_tail():
    assert combinations.places(SETTINGS) == PLACES
    long = replace(SETTINGS, steps=2400, tail=0.75, k=5)
    assert combinations.places(long) == list(range(1860, 2401, 60))


def test_mean_and_last_are_those_of_a_dull_loop(arms, plain):
    vectors = np.stack([flatten(plain.seen[t]) for t in PLACES])
    for arm, vector in {"last": vectors[-1], "mean": vectors.mean(axis=0)}.items():
        for name, (images, labels) in plain.data.sets.items():
            loss, top1 = plain.look(unflatten(plain, vector), images, labels)
            assert arms[f"{name}_loss"][arm] == pytest.approx(loss, rel=2e-4)
            column = "top1" if name == "test" else f"{name}_top1"
            assert arms[column][arm] == pytest.approx(top1, abs=0.021)  # one image of 50


def test_the_ensemble_averages_probabilities_with_batch_norm_estimated_for_each(arms, plain):
    for name, (images, labels) in plain.data.sets.items():
        p = 0
        for t in PLACES:
            model = plain.model
            training.load_flat(model, torch.from_numpy(flatten(plain.seen[t])).float())
            for layer in model.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.reset_running_stats()
                    layer.momentum = None
            model.train()
            with torch.no_grad():
                for batch in plain.data.norm:
                    model(batch)
                model.eval()
                p = p + functional.softmax(model(images).double(), 1) / len(PLACES)
        loss = float(functional.nll_loss(p.log(), labels))
        assert arms[f"{name}_loss"]["ensemble"] == pytest.approx(loss, rel=2e-4)
        right = float((p.argmax(1) == labels).double().mean())
        column = "top1" if name == "test" else f"{name}_top1"
        assert arms[column]["ensemble"] == pytest.approx(right, abs=0.021)


def test_acceleration_is_the_constrained_minimum_at_the_ridge_held_out_images_choose(arms, plain):
    vectors = np.stack([flatten(plain.seen[t]) for t in PLACES])
    looks = {}
    for ridge in (1e-6, 1e-4, 1e-2, 1.0, 100.0):  # below, float32 iterates decide the digits
        vector = combine(vectors, ridge)
        assert vector == pytest.approx(accelerate(vectors, ridge), abs=1e-6)
        looks[ridge] = {
            name: plain.look(unflatten(plain, vector), *plain.data.sets[name])[0]
            for name in ("valid", "test")
        }
    chosen = arms.regularisation["accelerated"]
    assert chosen == min(looks, key=lambda ridge: looks[ridge]["valid"])
    assert arms.test_loss["accelerated"] == pytest.approx(looks[chosen]["test"], rel=1e-3)


def test_a_run_that_diverges_has_no_value(tmp_path):
    wild = replace(SETTINGS, lr=100.0, weight_decay=1.0)
    table = combinations.combine_run(wild, POINT, tmp_path, [], "cpu")
    assert list(table.arm) == list(combinations.ARMS)
    assert table.drop(columns="arm").isna().all(axis=None)


# The claims, on tables whose truth is known.

ENDS = {"last": 0.90, "mean": 0.93, "ensemble": 0.91, "accelerated": 0.94}


def judged(ends: dict, seed: int = 0, shuffled: bool = False) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(8):
        values = (
            dict(ends)
            if not shuffled
            else dict(zip(ends, draw.permutation(list(ends.values())), strict=True))
        )
        for arm, value in values.items():
            metrics = dict.fromkeys(_networks.END_METRICS, 0.5) | {
                "top1": value + 0.002 * draw.standard_normal()
            }
            rows.append({"seed": number, "schedule": "constant", "arm": arm} | metrics)
    table = pd.DataFrame(rows).assign(commit="", device="", setting="stand-in", dataset="digits")
    tables = lambda each: table if each.name == "combinations" else pd.DataFrame()  # noqa: E731
    decide = registry.decide(SOURCE, tables, PRESETS["cpu"])
    told = claims.judge(SOURCE.name, CLAIMS, claims.measure(CLAIMS, decide), "cpu")
    return told[told.role == "primary"].set_index("claim")


@pytest.mark.parametrize("claim", ["LOOK-03b", "LOOK-31.general"])
def test_true_is_reproduced_false_contradicted_and_shuffled_arms_decide_nothing(claim):
    wrong = {"last": 0.94, "mean": 0.90, "ensemble": 0.92, "accelerated": 0.91}
    assert judged(ENDS).verdict[claim] == "reproduced"
    assert judged(wrong).verdict[claim] == "contradicted"
    assert judged(ENDS, shuffled=True).verdict[claim] == "inconclusive"


def test_what_a_plain_mean_gives_too_is_said_by_the_control():
    assert judged(ENDS).control_verdict["LOOK-31.general"] == "passes too"
    assert judged(ENDS | {"mean": 0.89}).control_verdict["LOOK-31.general"] == "fails"
