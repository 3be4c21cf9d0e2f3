"""ImageNet's recipe and the defaults: what is run, beside loops written out, and the claims against
tables whose truth is known.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from lookahead_loops import SMALL, Plain, forget

from replicate import claims, datasets, models, plots
from replicate.app import registry
from replicate.sources.zhang2019lookahead import _methods, defaults, imagenet, tables
from replicate.sources.zhang2019lookahead.presets import PRESETS, tiny

SOURCE = registry.source("zhang2019lookahead")
CLAIMS = registry.claims_of(SOURCE)
SETTINGS = replace(SMALL, steps=60, lr=0.05, k=5)  # a step an epoch
SHARES = {"aggressive": (30 / 60, 48 / 60, 58 / 60), "plain": (30 / 90, 60 / 90)}


def run(settings, method: str, schedule: str) -> pd.DataFrame:
    point = {"seed": 0, "schedule": schedule, "method": method}
    return imagenet.train_run(settings, point, None, [], "cpu").set_index(["arm", "epoch"])


def plain_loop(method: str, schedule: str) -> Plain:
    steps = imagenet.SCHEDULES[schedule].epochs
    settings = replace(SETTINGS, steps=steps, drops=SHARES[schedule], drop=0.1)
    return Plain(settings, {"seed": 0, "method": method, "lr": 0.05, "schedule": "decayed"})


def fifth(plain, weights) -> float:
    """The share of test images whose label is among the five largest outputs, by sorting."""
    outputs = []
    plain.look(weights, plain.data.sets["test"][0], plain.data.sets["test"][1])
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, output: outputs.append(output) if type(module).__name__ == "ResNet" else None
    )  # fmt: skip
    plain.look(weights, *plain.data.sets["test"])
    hook.remove()
    ordered = np.argsort(-outputs[-1].numpy(), axis=1)[:, :5]
    labels = plain.data.sets["test"][1].numpy()
    return float(np.mean([label in row for label, row in zip(labels, ordered, strict=True)]))


# ImageNet's recipe.


def test_the_rate_falls_by_ten_at_the_epochs_of_the_schedule():
    def rates(schedule: str) -> list[float]:
        return [imagenet.rate_at(SETTINGS, schedule, step) / 0.05 for step in (29, 30, 47, 48, 57, 58, 60)]  # fmt: skip

    assert rates("aggressive") == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert rates("plain") == pytest.approx([1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01])
    assert imagenet.list_epochs("aggressive") == [10, 20, 30, 40, 50, 60]
    assert imagenet.list_epochs("plain")[-1] == 90


@pytest.mark.parametrize("schedule", imagenet.SCHEDULES)
@pytest.mark.parametrize("method", imagenet.RECIPE_METHODS)
def test_every_arm_is_that_of_a_dull_loop(method, schedule):
    rows, plain = run(SETTINGS, method, schedule), plain_loop(method, schedule)
    beta = (1 - SETTINGS.alpha) ** (1 / SETTINGS.k)
    for arm in imagenet.ARMS[method]:
        for epoch in (10, 30, imagenet.SCHEDULES[schedule].epochs):
            seen = plain.seen[: epoch + 1]
            weights = forget(seen, beta) if arm == "sgd-ema" else seen[-1]
            loss, top1 = plain.look(weights, *plain.data.sets["test"])
            row = rows.loc[(arm, epoch)]
            assert row.test_loss == pytest.approx(loss, rel=1e-3)
            assert row.top1 == pytest.approx(top1, abs=0.021)  # one image of 50
            assert row.top5 == pytest.approx(fifth(plain, weights), abs=0.021)


def test_five_of_seven_outputs_count():
    outputs = torch.arange(7.0).repeat(7, 1)
    assert imagenet.count_top5(outputs, torch.arange(7)) == 5
    assert imagenet.count_top5(outputs[:, :3], torch.tensor([0] * 7)) == 7


def test_a_run_that_diverges_has_no_value_from_then_on():
    rows = run(replace(SETTINGS, lr=100.0, weight_decay=1.0), "sgd", "aggressive")
    assert len(rows) == 12  # two arms at six epochs
    assert rows[list(imagenet.METRICS)].isna().all(axis=None)


def test_every_method_has_every_schedule_and_nothing_is_tuned():
    points = pd.DataFrame(imagenet.list_points(SETTINGS))
    assert set(points.groupby(["seed", "schedule", "method"]).size()) == {1}
    assert "lr" not in points and len(points) == 4 * len(SETTINGS.seeds)


def test_the_deep_network_is_resnet_152():
    network = models.resnet152(1000, seed=0)
    assert sum(p.numel() for p in network.parameters()) == 60_192_808  # He et al.: 60.2 million
    layers = [name for name, each in network.named_modules() if hasattr(each, "weight")]
    weighted = [name for name in layers if "bn" not in name and "downsample" not in name]
    assert len(weighted) == 152
    small = replace(PRESETS["paper"]["imagenet-deep"], precision="float32")
    shallow = imagenet.build_network(
        replace(small, model="resnet50"), 0, (3, 224, 224), 1000, "cpu"
    )
    deep = imagenet.build_network(small, 0, (3, 224, 224), 1000, "cpu")
    assert [sum(p.numel() for p in each.parameters()) for each in (shallow, deep)] == [25_557_032, 60_192_808]  # fmt: skip


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Shards of twelve photographs to train on and six to be judged on, of three classes."""
    from PIL import Image

    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path / "data"))
    draw = np.random.default_rng(0)
    for wnid in ("n01440764", "n01443537", "n01484850"):
        for split, count in (("train", 4), ("val", 2)):
            folder = tmp_path / "tree" / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.JPEG")
    datasets.shard("imagenet", tmp_path / "tree", classes=3, jobs=1)
    return datasets.load("imagenet")


def test_of_shards_all_is_trained_on_and_validation_images_judge(photographs):
    settings = replace(tiny(PRESETS["paper"]["imagenet"]), batch=4, precision="float32")
    data = imagenet.Photographs.open(settings, "cpu")
    assert data.batches.per_epoch == 3  # twelve images
    assert data.batches.classes == 3 and len(data.norm) == 1 and len(data.norm[0]) == 12
    x = photographs.train_x / 255.0
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    judged = (photographs.test_x / 255.0 - mean) / deviation
    images, labels = data.test
    np.testing.assert_allclose(images.permute(0, 2, 3, 1).numpy(), judged, atol=1e-5)
    assert labels.tolist() == photographs.test_y.tolist()
    point = {"seed": 0, "schedule": "aggressive", "method": "lookahead"}
    rows = imagenet.train_run(replace(settings, batch=4), point, None, [], "cpu")
    assert rows.epoch.tolist() == [10, 20, 30, 40, 50, 60]
    assert np.isfinite(rows.test_loss).all() and (rows.top5 == 1).all()  # of three classes


# What the figures take from the source.


def test_printed_gains_are_differences_of_the_printed_tables():
    assert tables.list_printed_gains("CIFAR-10") == pytest.approx(
        {"sgd": 0.0, "tail": 0.0003, "adamw": -0.0039, "lookahead": 0.0004}
    )
    assert tables.list_printed_gains("CIFAR-100")["lookahead"] == pytest.approx(0.001)
    assert tables.list_printed_gains_by_epoch() == pytest.approx({50: 0.007, 60: 0.0034})
    assert tables.list_printed_gains_by_state() == pytest.approx(
        {"maintain": 0.0, "interpolate": 0.0001, "reset": -0.0024}
    )


def test_a_printed_gain_is_drawn_from_the_mean_that_it_is_over():
    table = accuracies(0.02).query("arm != 'sgd' or schedule != 'aggressive' or epoch != 60")
    flat = pd.DataFrame({"seed": [0, 1], "schedule": "aggressive", "arm": "sgd", "epoch": 60, "top1": [0.5, 0.7],
                         "top5": 1.0, "test_loss": 1.0})  # fmt: skip
    axes = plots.accuracies_by_epoch(pd.concat([table, flat]), {60: 0.05})
    drawn = [
        each.get_offsets() for each in axes[0].collections if each.get_offsets().shape == (1, 2)
    ]
    assert drawn[-1].tolist() == [[60.0, pytest.approx(0.65)]]


# The defaults.


def test_a_task_is_a_network_and_an_inner_optimizer_at_its_default():
    points = pd.DataFrame(defaults.list_points(replace(SMALL, seeds=(0,))))
    assert len(points) == 12
    tasks = points.groupby(["model", "inner"]).method.agg(set)
    assert len(tasks) == 6
    assert all(methods == {inner, "lookahead"} for (_, inner), methods in tasks.items())
    w = torch.nn.Parameter(torch.zeros(1))
    settings = replace(SMALL, weight_decay=0.0, momentum=0.9)
    sgd, adamw = (_methods.IMAGE_METHODS[name].make([w], settings, defaults.DEFAULT_RATE).param_groups[0]
                  for name in defaults.INNER_OPTIMIZERS)  # fmt: skip
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"]) == (0.1, 0.9, 0.0)
    assert (adamw["lr"], adamw["weight_decay"]) == (0.001, 0.0)
    assert {point["weight_decay"] for point in defaults.list_points(SMALL)} == {0.0}


def ends(losses: dict, seed: int = 0) -> pd.DataFrame:
    """losses: (model, inner) -> losses alone, of the running mean, and under Lookahead."""
    rows = []
    for (model, inner), values in losses.items():
        for arm, loss in zip((inner, f"{inner}-ema", "lookahead"), values, strict=True):
            row = {"seed": seed, "model": model, "inner": inner, "arm": arm}
            rows.append(row | dict.fromkeys(defaults.LOSSES_SEEN.values(), loss))
    return pd.DataFrame(rows)


def test_shares_count_ties_by_half_and_lost_runs_as_behind():
    nan = math.nan
    table = ends({
        ("mlp", "sgd"): (1.0, 0.5, 0.9),  # both ahead
        ("mlp", "adamw"): (1.0, 1.5, 1.0),  # a tie
        ("resnet8", "sgd"): (nan, 0.5, 0.9),  # the inner optimizer was lost
        ("resnet8", "adamw"): (1.0, 0.5, nan),
        ("resnet20", "sgd"): (nan, nan, nan),  # both lost: a tie
        ("resnet20", "adamw"): (1.0, 2.0, 2.0),
    })  # fmt: skip
    by_inner = defaults.derive(table).set_index(["inside", "arm"])
    assert by_inner.share_end["sgd", "lookahead"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert by_inner.share_end["adamw", "lookahead"] == pytest.approx(0.5 / 3)
    judged = by_inner.loc["either"]
    assert judged.share_end["lookahead"] == pytest.approx((1 + 0.5 + 1 + 0 + 0.5 + 0) / 6)
    assert judged.share_end["ema"] == pytest.approx((1 + 0 + 1 + 1 + 0.5 + 0) / 6)
    assert (judged[list(defaults.SHARE_METRICS)].nunique(axis=1) == 1).all()


def test_each_share_is_of_its_own_loss():
    table = ends({("mlp", inner): (1.0, 1.0, 1.0) for inner in defaults.INNER_OPTIMIZERS})
    for metric, name in zip(defaults.LOSSES_SEEN.values(), defaults.SHARE_METRICS, strict=True):
        lower = table.assign(**{metric: table[metric].mask(table.arm == "lookahead", 0.5)})
        judged = defaults.derive(lower)
        shares = judged[judged.inside == "either"].set_index("arm").loc["lookahead"]
        assert shares[name] == 1
        assert (shares[[each for each in defaults.SHARE_METRICS if each != name]] == 0.5).all()


# The claims.


def judge(name: str, table: pd.DataFrame, dataset: str, preset: str) -> pd.DataFrame:
    table = table.assign(commit="", device="", setting="the source's", dataset=dataset)
    tables = lambda each: table if each.name == name else pd.DataFrame()  # noqa: E731
    decide = registry.decide(SOURCE, tables, PRESETS[preset])
    told = claims.judge(SOURCE.name, CLAIMS, claims.measure(CLAIMS, decide), preset)
    return told[told.role == "primary"].set_index("claim")


def accuracies(gain: float, shuffled: bool = False) -> pd.DataFrame:
    draw = np.random.default_rng(1)
    rows = []
    for seed in range(5):
        sign = draw.choice([-1, 1]) if shuffled else 1
        for schedule in imagenet.SCHEDULES:
            for arm, more in {"sgd": 0.0, "sgd-ema": -gain, "lookahead": sign * gain}.items():
                for epoch in imagenet.list_epochs(schedule):
                    value = 0.6 + more + 0.001 * draw.standard_normal()
                    rows.append({"seed": seed, "schedule": schedule, "arm": arm, "epoch": epoch, "top1": value,
                                 "top5": value + 0.2, "test_loss": 1 - value})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("entry, names", [
    ("imagenet", ["LOOK-20", "LOOK-20.early", "LOOK-20.top5", "LOOK-20.top5-early"]),
    ("imagenet-deep", ["LOOK-21.deep"]),
])  # fmt: skip
def test_table_2_by_tables_whose_truth_is_known(entry, names):
    words = {what: judge("imagenet", table, entry, "paper").verdict[names]
             for what, table in {"true": accuracies(0.02), "false": accuracies(-0.02),
                                 "neither": accuracies(0.02, shuffled=True)}.items()}  # fmt: skip
    assert set(words["true"]) == {"reproduced"}
    assert set(words["false"]) == {"contradicted"}
    assert set(words["neither"]) == {"inconclusive"}


def test_table_2_is_read_at_its_epochs_and_schedule():
    table = accuracies(0.02)
    early = (table.epoch == 50) & (table.schedule == "aggressive") & (table.arm == "lookahead")
    words = judge(
        "imagenet", table.assign(top1=table.top1 - 0.1 * early), "imagenet", "paper"
    ).verdict
    assert words["LOOK-20"] == "reproduced" and words["LOOK-20.early"] == "contradicted"


def shares(ahead: int, tasks: int = 6) -> pd.DataFrame:
    """Lookahead ahead on some of the tasks; every third seed on one more or fewer."""
    keys = [
        (model, inner)
        for model in ("mlp", "resnet8", "resnet20")
        for inner in defaults.INNER_OPTIMIZERS
    ]
    parts = []
    for seed in range(8):
        wins = ahead + (seed % 3 == 0) - (seed % 3 == 1)
        losses = {key: (1.0, 1.1, 0.9 if i < wins else 1.2) for i, key in enumerate(keys[:tasks])}
        parts.append(ends(losses, seed))
    return pd.concat(parts)


@pytest.mark.parametrize(
    "ahead, word", [(5, "reproduced"), (1, "contradicted"), (3, "inconclusive")]
)
def test_most_tasks_by_tables_whose_truth_is_known(ahead, word):
    rows = judge("defaults", shares(ahead), "digits", "cpu")
    assert set(rows.verdict[["LOOK-30", "LOOK-30.early"]]) == {word}
    assert rows.control_verdict["LOOK-30"] == "fails"


@pytest.mark.parametrize("ahead_around, word", [("sgd", "reproduced"), ("adamw", "contradicted")])
def test_each_inner_optimizer_is_judged_by_its_own_tasks(ahead_around, word):
    parts = []
    for seed in range(8):
        losses = {
            (model, inner): (1.0, 1.1, 0.9 if (inner == ahead_around) == (seed != 3) else 1.2)
            for model in ("mlp", "resnet8", "resnet20")
            for inner in defaults.INNER_OPTIMIZERS
        }
        parts.append(ends(losses, seed))
    words = judge("defaults", pd.concat(parts), "digits", "cpu").verdict
    assert words["LOOK-30.sgd"] == words["LOOK-30.adamw"] == word
