"""Runs on text against plain loops, each method and arm, and what goes on without its packages."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from text_loops import LANGUAGE, PAIRS, TEXTS, TRANSLATION, PlainReader, PlainTranslator

from replicate import datasets, runs, training
from replicate.datasets import catalogue
from replicate.errors import Missing
from replicate.sources.zhang2019lookahead import (
    _bleu,
    _language,
    _translation,
    language_model,
    translation,
)
from replicate.streams import rng


@pytest.fixture(autouse=True)
def made_up_texts(monkeypatch):
    monkeypatch.setattr(datasets, "load", TEXTS.__getitem__)


# Language.


@pytest.mark.parametrize(
    "method, lr",
    [
        ("sgd", 20.0),
        ("lookahead-sgd", 20.0),
        ("adam", 0.05),
        ("lookahead-adam", 0.05),
        ("asgd", 40.0),
    ],
)
def test_a_run_of_a_language_model_is_a_plain_loop(method, lr):
    point = {"seed": 1, "method": method, "lr": lr}
    plain = PlainReader(LANGUAGE, point)
    made = _language.language_run(LANGUAGE, point, None, [], "cpu").set_index("arm")
    means = {"sgd": "sgd-ema", "adam": "adam-ema"}
    assert list(made.index) == [method, *([means[method]] if method in means else [])]
    row = made.loc[method]
    losses = np.array(plain.losses)
    assert len(losses) == 9
    assert row.early_loss == pytest.approx(losses[:3].mean(), rel=1e-4)
    assert row.train_loss == pytest.approx(losses[-3:].mean(), rel=1e-4)
    curve = np.interp(np.arange(1, 11) / 10, np.arange(1, 10) / 9, losses)
    assert list(row[list(_language.CURVE_TENTHS)]) == pytest.approx(curve, rel=1e-4)
    for split in ("valid", "test"):
        assert row[f"{split}_loss"] == pytest.approx(plain.look(method, split), rel=1e-4)
        if method in means:
            expected = plain.look(method, split, plain.walk.running_mean())
            assert made.loc[means[method], f"{split}_loss"] == pytest.approx(expected, rel=1e-4)
    steps = plain.walk.step
    assert steps % LANGUAGE.k, "the end is to lie between two pulls"
    assert row.averaged == (0 if plain.begin is None else steps - plain.begin)
    if method == "asgd":
        assert row.averaged > 0, "the case is to show a mean that has begun"


def test_the_rate_falls_where_validation_stays():
    point = {"seed": 1, "method": "sgd", "lr": 20.0}
    ends = [
        _language.language_run(replace(LANGUAGE, patience=p), point, None, [], "cpu").train_loss[0]
        for p in (1, 100)
    ]
    assert ends[0] != ends[1]


def test_a_language_model_that_is_lost_has_no_numbers():
    point = {"seed": 0, "method": "sgd", "lr": 1e30}
    made = _language.language_run(LANGUAGE, point, None, [], "cpu")
    assert made.arm.tolist() == ["sgd", "sgd-ema"]
    assert made[list(_language.LANGUAGE_METRICS)].isna().all(axis=None)


def test_checks_cut_an_epoch_into_equal_pieces():
    pieces = list(_language.cut_epochs(LANGUAGE, 75, seed=0))
    assert [begins for begins, _ in pieces] == [True, False, False] * 3
    for epoch in range(3):
        windows = [w for _, piece in pieces[3 * epoch : 3 * epoch + 3] for w in piece]
        assert windows == datasets.cut_windows(75, 9, 0, epoch)
        counts = [len(piece) for _, piece in pieces[3 * epoch : 3 * epoch + 3]]
        assert max(counts) - min(counts) <= 1
    many = list(_language.cut_epochs(replace(LANGUAGE, checks=50), 75, seed=0))
    assert all(len(windows) == 1 for _, windows in many)


def test_a_share_of_the_text_is_its_beginning():
    whole = _language.Text.load(LANGUAGE, "cpu")
    part = _language.Text.load(
        replace(LANGUAGE, tokens=100, held_tokens=40, check_tokens=20), "cpu"
    )
    assert whole.words == part.words == 12  # the vocabulary stays that of the whole text
    assert part.train.T.flatten().tolist() == TEXTS["ptb"].train[:100].tolist()
    assert part.test.T.flatten().tolist() == TEXTS["ptb"].test[:40].tolist()
    assert part.check.T.flatten().tolist() == TEXTS["ptb"].valid[:20].tolist()
    assert [x.numel() for x in (whole.train, whole.valid, whole.check)] == [300, 90, 60]


# Translation.


@pytest.mark.parametrize("method", ["adam-warmup", "adam", "lookahead-warmup", "lookahead"])
def test_a_run_of_a_translator_is_a_plain_loop(method):
    pytest.importorskip("sentencepiece")
    point = {"seed": 1, "method": method, "lr": 0.02}
    plain = PlainTranslator(TRANSLATION, point)
    made = _translation.translation_run(TRANSLATION, point, None, [], "cpu").set_index("arm")
    assert list(made.index) == [method, *(["adam-ema"] if method == "adam" else [])]
    row = made.loc[method]
    assert row.early_loss == pytest.approx(np.mean(plain.losses[2:8]), rel=1e-3)
    assert row.late_loss == pytest.approx(np.mean(plain.losses[18:]), rel=1e-3)
    assert list(row[list(_translation.TWENTIETHS)]) == pytest.approx(plain.losses, rel=1e-3)
    ends = {method: plain.walk.slow if "lookahead" in method else plain.walk.seen[-1]}
    if method == "adam":
        ends["adam-ema"] = plain.walk.running_mean()
    for arm, weights in ends.items():
        *losses, bleu = plain.look(weights)
        made_losses = list(made.loc[arm, ["seen_loss", "valid_loss"]])
        assert made_losses == pytest.approx(losses, rel=2e-3), arm
        assert made.loc[arm, "bleu"] == pytest.approx(bleu, abs=0.5), arm
    assert row.late_loss < row.early_loss


def test_adafactor_is_torch_s_at_the_rates_of_the_schedule():
    pytest.importorskip("sentencepiece")
    point = {"seed": 1, "method": "adafactor-warmup", "lr": 0.05}
    made = _translation.translation_run(TRANSLATION, point, None, [], "cpu")
    run = _translation.TranslationRun(TRANSLATION, point, "cpu")
    optimizer = torch.optim.Adafactor(run.model.parameters(), lr=1.0)
    for step in range(20):
        optimizer.param_groups[0]["lr"] = 0.05 * min((step + 1) / 5, (5 / (step + 1)) ** 0.5)
        source, target = run.data.train.batch(1, step)
        torch.manual_seed(int(rng(1, "dropout", step).integers(2**63)))
        logits = run.model.train()(source, target[:, :-1]).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(
            logits, target[:, 1:].flatten(), ignore_index=0, label_smoothing=0.1
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert made[_translation.TWENTIETHS[step]][0] == pytest.approx(
            float(loss.detach()), rel=1e-3
        )


def test_without_warm_up_the_rate_has_its_peak_until_there():
    warm, cold = (_translation.schedule(TRANSLATION, 0.5, warmup) for warmup in (True, False))
    assert [warm(step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert [cold(step) for step in range(5)] == [0.5] * 5
    assert [warm(step) for step in (5, 19, 79)] == [cold(step) for step in (5, 19, 79)]
    assert cold(19) == pytest.approx(0.25) and cold(79) == pytest.approx(0.125)


def test_translations_come_back_in_the_order_of_their_sentences(monkeypatch):
    pytest.importorskip("sentencepiece")

    def copy(model, source, begin, end, longest):
        assert longest == 20
        return [[piece for piece in row if piece not in (0, end)] for row in source.tolist()]

    monkeypatch.setattr(_translation, "SENTENCES_AT_ONCE", 2)
    monkeypatch.setattr(training, "translate", copy)
    run = _translation.TranslationRun(TRANSLATION, {"seed": 0, "method": "adam", "lr": 0.01}, "cpu")
    assert run.translate_test() == list(PAIRS.test[0][:5])


def test_bleu_is_sacrebleu_s_and_says_how_it_counted():
    pytest.importorskip("sacrebleu")
    references = ["ein Mann mit einem Hut steht im Garten .", "zwei Hunde laufen über die Wiese ."]
    assert _bleu.score(references, references) == pytest.approx(100.0)
    assert _bleu.score(["so nicht", "gar nicht"], references) < 5
    # Of 16 words 15 are right, of 14 pairs 12, of 12 triples 9, of 10 fours 6; as long as it should be.
    wrong = [references[0].replace("steht", "sitzt"), references[1]]
    precisions = [15 / 16, 12 / 14, 9 / 12, 6 / 10]
    assert _bleu.score(wrong, references) == pytest.approx(100 * np.prod(precisions) ** 0.25)
    signature = _bleu.sign(references)
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_copying_the_source_of_multi30k_is_half_a_point():
    pytest.importorskip("sacrebleu")
    if not datasets.at_hand("multi30k"):
        pytest.skip("multi30k not at hand (data/README.md says how to get it)")
    assert round(_bleu.score(*catalogue.load("multi30k").test), 2) == 0.48


def test_a_missing_sacrebleu_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(Missing, match=r"needs sacrebleu, which is not installed.*make env"):
        _bleu.score(["a"], ["a"])


# Whole experiments.


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Every run of a grid here and now, with nothing kept."""

    def each(run, settings, points):
        tables = [run(settings, point, tmp_path, [], "cpu").assign(**point) for point in points]
        return runs.Runs(pd.concat(tables, ignore_index=True), {}, run, settings)

    monkeypatch.setattr("replicate.runs.each", each, raising=False)


def test_the_table_of_language_models_has_every_arm_at_every_rate(in_process):
    settings = replace(LANGUAGE, epochs=1, checks=1, bptt=40)
    table = language_model.language_model(settings)
    counts = table.groupby("arm").size().to_dict()
    assert counts == dict.fromkeys(language_model.language_model.fields["arm"], 4)
    assert set(table.groupby("arm").lr.unique().sgd) == {1.0, 2.0}
    judged = language_model.language_model.derive_table(table)
    assert set(judged.arm) == set(counts) and (judged.at_edge == 1).all()


def test_the_table_of_translations_has_the_floor_and_the_signature(in_process):
    pytest.importorskip("sentencepiece")
    settings = replace(
        TRANSLATION, seeds=(0, 1), adam_rates=(0.01,), adafactor_rates=(0.05,), longest=2
    )
    table = translation.translation(settings)
    floor = table[table.arm == translation.COPY]
    assert floor.bleu.tolist() == [_bleu.score(PAIRS.test[0][:5], PAIRS.test[1][:5])]
    assert table.signature.nunique() == 1 and "tok:13a" in table.signature[0]
    judged = translation.translation.derive_table(table)
    assert set(judged.arm) == set(translation.translation.fields["arm"])


def test_a_text_without_sentencepiece_is_gone_on_without(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    monkeypatch.setattr("replicate.paths.BUILD", tmp_path)
    table = runs.over(translation.translation, {"multi30k": TRANSLATION})
    err = capsys.readouterr().err
    assert table.empty and err.count("\n") == 1
    assert err.startswith("going on without multi30k: BLEU needs sacrebleu")
