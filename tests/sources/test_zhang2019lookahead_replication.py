"""The public replication put right: its arms against a plain loop, its rows against known tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from replicate import claims
from replicate.app import registry
from replicate.sources import images as kit
from replicate.sources.zhang2019lookahead import _networks
from replicate.sources.zhang2019lookahead.presets import PRESETS
from replicate.sources.zhang2019lookahead.replication import SETUPS, train_arm

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)
ROWS = ("LOOK-B11", "LOOK-B11.momentum", "LOOK-B11.level")
SMALL = replace(PRESETS["smoke"]["digits"], steps=20, batch=32, norm_batches=1, curve_images=50)
# What each arm is, from the report: momentum, weight decay, whether the slow weights are pulled.
MEANT = {
    "sgd": (0.9, 1e-3, False),
    "as run": (0.0, 0.0, True),
    "momentum": (0.9, 0.0, True),
    "as meant": (0.9, 1e-3, True),
}


def train_plainly(arm: str, seed: int) -> float:
    """The training loss at the end, by a loop over tensors; k = 5, alpha = 0.8."""
    momentum, decay, is_ahead = MEANT[arm]
    data = _networks.Data.load(SMALL, "cpu")
    model = kit.network(SMALL, seed, data.images, "cpu")
    weights = list(model.parameters())
    velocity = [torch.zeros_like(w) for w in weights]
    slow = [w.detach().clone() for w in weights]
    for t in range(SMALL.steps):
        images, labels = data.batches.batch(seed, 0, t)
        model.train()
        gradients = torch.autograd.grad(functional.cross_entropy(model(images), labels), weights)
        rate = (0.1 if is_ahead else 0.05) * 0.2 ** sum(t >= end for end in (6, 12, 16))
        with torch.no_grad():
            for w, v, phi, g in zip(weights, velocity, slow, gradients, strict=True):
                v.copy_(momentum * v + g + decay * w)
                w.sub_(rate * v)
                if is_ahead and t % 5 == 4:
                    w.copy_(phi + 0.8 * (w - phi))
                    phi.copy_(w)
    return kit.evaluator(model, data.sets, data.norm)(None)["train_loss"]


@pytest.mark.parametrize("arm", SETUPS)
def test_an_arm_is_a_plain_loop(arm):
    made = train_arm(SMALL, {"seed": 1, "arm": arm}, None, [], "cpu")
    assert len(made) == 1
    assert made.train_loss.item() == pytest.approx(train_plainly(arm, 1), rel=2e-4)


def judge(accuracies: dict, spread=0.002, shuffled=False) -> pd.Series:
    """The words at preset cpu of a table with these mean accuracies, 10 seeds."""
    noise = np.random.Generator(np.random.Philox(5))
    rows = []
    for seed in range(10):
        names = noise.permutation(list(accuracies)) if shuffled else list(accuracies)
        for arm, name in zip(SETUPS, names, strict=True):
            metrics = {m: 3.0 + i + noise.random() for i, m in enumerate(_networks.END_METRICS)}
            top1 = accuracies[name] + spread * noise.standard_normal()
            rows.append({"seed": seed, "arm": arm} | metrics | {"top1": top1})
    table = pd.DataFrame(rows).assign(commit="", device="", setting="stand-in", dataset="digits")
    tables = lambda each: table if each.name == "replication" else pd.DataFrame()  # noqa: E731
    decide = registry.decide(SOURCE, tables, PRESETS["cpu"])
    judged = claims.judge(SOURCE.name, CLAIMS, claims.measure(CLAIMS, decide), "cpu")
    primary = judged[(judged.role == "primary") & judged.claim.isin(ROWS)]
    return primary.set_index("claim").loc[list(ROWS)]


def test_true_is_reproduced_and_the_control_fails():
    made = judge({"sgd": 0.95, "as run": 0.93, "momentum": 0.955, "as meant": 0.953})
    assert made.verdict.tolist() == ["reproduced"] * 3
    assert made.control_verdict["LOOK-B11"] == "fails"
    assert made.value["LOOK-B11"] == pytest.approx(-0.02, abs=0.003)


def test_false_is_contradicted():
    made = judge({"sgd": 0.93, "as run": 0.95, "momentum": 0.92, "as meant": 0.97})
    assert made.verdict.tolist() == ["contradicted"] * 3


def test_shuffled_arms_decide_nothing():
    made = judge({"sgd": 0.99, "as run": 0.6, "momentum": 0.8, "as meant": 0.9}, shuffled=True)
    assert made.verdict.tolist() == ["inconclusive"] * 3
