"""What the runs on text are judged at, their settings, and their claims against tables whose truth is
known.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from text_loops import LANGUAGE, TRANSLATION

from replicate import claims
from replicate.app import registry
from replicate.sources.zhang2019lookahead import language_model, translation
from replicate.sources.zhang2019lookahead._rates import judge_at_best_rates
from replicate.sources.zhang2019lookahead._text_methods import (
    LANGUAGE_METHODS,
    TRANSLATION_METHODS,
    list_points,
)
from replicate.sources.zhang2019lookahead.presets import PRESETS, setting, tiny

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)

# What is chosen, and settings.


def test_a_rate_is_chosen_in_the_grid_of_its_arm():
    rows = [
        {
            "seed": seed,
            "arm": arm,
            "lr": lr,
            "weight_decay": 0.0,
            "valid_loss": abs(lr - best),
            "x": lr,
        }
        for arm, grid, best in (("sgd", (10.0, 20.0, 40.0), 20.0), ("adam", (0.1, 0.2), 0.2))
        for seed in range(3)
        for lr in grid
    ]
    judged = judge_at_best_rates(pd.DataFrame(rows)).set_index(["arm", "regime", "seed"])
    assert judged.loc["sgd", "tuned", 1].x == 20.0 and judged.loc["sgd", "tuned", 1].at_edge == 0
    assert judged.loc["sgd", "tuned lower", 1].x == 10.0
    assert judged.loc["sgd", "tuned higher", 1].x == 40.0
    assert judged.loc["adam", "tuned", 0].at_edge == 1
    assert ("adam", "tuned higher", 0) not in judged.index


@pytest.mark.parametrize("name", ["ptb", "multi30k"])
def test_methods_have_as_many_trials_each(name):
    methods = LANGUAGE_METHODS if name == "ptb" else TRANSLATION_METHODS
    for preset in ("cpu", "night", "gpu", "paper"):
        settings = PRESETS[preset][name]
        points = list_points(settings, methods)
        counts = {m: sum(point["method"] == m for point in points) for m in methods}
        assert len(set(counts.values())) == 1, preset
        assert len({tuple(point.values()) for point in points}) == len(points)


@pytest.mark.parametrize("changes, words", [
    ({"sgd_rates": ()}, "sgd_rates must name a rate"),
    ({"adam_rates": (0.1, 0.01)}, "adam_rates must name a rate and rise"),
    ({"seeds": (1, 1)}, "none twice"),
    ({"weight_drop": 1.0}, "less than 1"),
    ({"dataset": "multi30k"}, "ptb"),
])  # fmt: skip
def test_settings_of_a_language_model_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        replace(LANGUAGE, **changes)


@pytest.mark.parametrize("changes, words", [
    ({"heads": 3}, "heads must divide the width 8"),
    ({"early": (0.4, 0.1)}, "early must hold a step of 20"),
    ({"late": (0.99, 1.0)}, "late must hold a step of 20"),
    ({"steps": 19}, "greater than or equal to 20"),
])  # fmt: skip
def test_settings_of_a_translator_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        replace(TRANSLATION, **changes)


def test_only_the_paper_s_own_language_model_is_the_source_s():
    fields = {preset: vars(PRESETS[preset]["ptb"]) for preset in ("cpu", "night", "paper")}
    assert setting("ptb", fields["paper"]) == "the source's"
    assert setting("ptb", fields["night"]) == "stand-in: an AWD-LSTM of 2 x 200 on ptb"
    assert setting("ptb", fields["cpu"]) == "stand-in: an AWD-LSTM of 2 x 64 on 30000 words of ptb"
    assert setting("ptb", fields["paper"] | {"epochs": 700}).startswith("stand-in")
    paper = vars(PRESETS["paper"]["multi30k"])
    assert setting("multi30k", paper) == "stand-in: a transformer of width 512 on multi30k"
    part = vars(PRESETS["cpu"]["multi30k"])
    assert (
        setting("multi30k", part) == "stand-in: a transformer of width 64 on 3520 pairs of multi30k"
    )


@pytest.mark.parametrize("name", ["ptb", "multi30k"])
def test_tiny_settings_are_smaller_everywhere(name):
    for preset in ("cpu", "night", "gpu", "paper"):
        settings = PRESETS[preset][name]
        small = tiny(settings)
        assert small != settings and type(small) is type(settings) and len(small.seeds) == 2


# Verdicts.

SEEDS = 5


def table_of(experiment, offsets, spread=0.01, shuffled=False):
    """Runs at three rates whose every metric is its arm's offset and a seed's noise."""
    noise = np.random.Generator(np.random.Philox(4))
    metrics = experiment.metrics
    rows = []
    for arm in experiment.fields["arm"]:
        for seed in range(SEEDS):
            for place, lr in enumerate((0.1, 0.2, 0.4)):
                row = {"seed": seed, "arm": arm, "lr": lr, "weight_decay": 0.0}
                for i, metric in enumerate(metrics):
                    row[metric] = 5 + i + offsets.get((arm, metric), 0.0) + spread * noise.normal()
                if place != 1:
                    row["valid_loss"] += 0.05
                rows.append(row)
    table = pd.DataFrame(rows)
    if shuffled:
        for _, rows in table.groupby(["seed", "lr"]):
            order = noise.permutation(rows.index)
            table.loc[rows.index, list(metrics)] = table.loc[order, list(metrics)].to_numpy()
    return table


def judge(experiment, table, where, claim, setting="the source's"):
    """The primary row of one claim of the experiment at the first preset that judges it."""
    table = table.assign(commit="", device="", setting=setting, dataset=where)
    tables = lambda each: table if each is experiment else pd.DataFrame()  # noqa: E731
    [wanted] = [each for each in CLAIMS if each.id == claim]
    planned = {where: replace(PRESETS[wanted.needs][where], seeds=tuple(range(SEEDS)))}
    decide = registry.decide(SOURCE, tables, planned)
    rows = claims.judge(SOURCE.name, [wanted], claims.measure([wanted], decide), wanted.needs)
    [row] = rows[rows.role == "primary"].to_dict("records")
    return row


LM, MT = language_model.language_model, translation.translation
ORDERINGS = {  # claim -> experiment, entry, (arm, metric) that lies below the other one where it holds
    "LOOK-22.early": (MT, "multi30k", ("lookahead", "early_loss")),
    "LOOK-22.adafactor": (MT, "multi30k", ("lookahead-warmup", "early_loss")),
    "LOOK-22.ramp": (MT, "multi30k", ("adam-warmup", "early_loss")),
    "LOOK-22.added": (MT, "multi30k", ("lookahead", "early_loss")),
    "LOOK-22.mean": (MT, "multi30k", ("adam-ema", "valid_loss")),
    "LOOK-23.sgd": (LM, "ptb", ("lookahead-sgd", "test_loss")),
    "LOOK-23.adam": (LM, "ptb", ("lookahead-adam", "test_loss")),
    "LOOK-23.asgd": (LM, "ptb", ("lookahead-adam", "test_loss")),
    "LOOK-23.short-asgd": (LM, "ptb", ("lookahead-adam", "test_loss")),
    "LOOK-23.early-adam": (LM, "ptb", ("lookahead-adam", "early_loss")),
    "LOOK-23.early-sgd": (LM, "ptb", ("sgd", "early_loss")),
    "LOOK-23.short-sgd": (LM, "ptb", ("lookahead-sgd", "test_loss")),
    "LOOK-23.short-adam": (LM, "ptb", ("lookahead-adam", "test_loss")),
    "LOOK-23.mean": (LM, "ptb", ("adam-ema", "test_loss")),
}


@pytest.mark.parametrize("claim", ORDERINGS)
def test_true_is_reproduced_and_false_contradicted(claim):
    experiment, where, below = ORDERINGS[claim]
    words = [
        judge(experiment, table_of(experiment, {below: away}), where, claim)["verdict"]
        for away in (-0.2, 0.2)
    ]
    assert words == ["reproduced", "contradicted"]


@pytest.mark.parametrize("claim", ["LOOK-22.early", "LOOK-22.mean", "LOOK-23.short-adam"])
def test_shuffled_arms_decide_nothing(claim):
    experiment, where, below = ORDERINGS[claim]
    table = table_of(experiment, {below: -0.2}, spread=0.5, shuffled=True)
    assert judge(experiment, table, where, claim)["verdict"] == "inconclusive"


@pytest.mark.parametrize("away, word", [(0.0, "reproduced"), (0.3, "contradicted"), (-0.3, "contradicted"), (0.1, "inconclusive")])  # fmt: skip
def test_the_ends_are_alike_within_a_tenth(away, word):
    table = table_of(MT, {("lookahead", "late_loss"): away})
    assert judge(MT, table, "multi30k", "LOOK-22.end")["verdict"] == word


def test_the_control_is_the_same_without_lookahead():
    alone = table_of(MT, {("lookahead", "early_loss"): -0.2, ("adam", "early_loss"): 0.2})
    assert judge(MT, alone, "multi30k", "LOOK-22.early")["control_verdict"] == "fails"
    both = table_of(MT, {("lookahead", "early_loss"): -0.2, ("adam", "early_loss"): -0.2})
    assert judge(MT, both, "multi30k", "LOOK-22.early")["control_verdict"] == "passes too"


def test_a_row_about_the_source_s_own_table_is_not_firm_on_a_small_net():
    table = table_of(LM, {("lookahead-sgd", "test_loss"): -0.2})
    words = {
        claim: judge(LM, table, "ptb", claim, setting="stand-in")["verdict"]
        for claim in ("LOOK-23.sgd", "LOOK-23.short-sgd")
    }
    assert words == {"LOOK-23.sgd": "inconclusive", "LOOK-23.short-sgd": "reproduced"}


def test_every_row_on_text_has_such_a_table():
    on_text = {c.id for c in CLAIMS if {"translation", "language_model"} & {*c.experiments}}
    assert on_text == {*ORDERINGS, "LOOK-22.end"}
