"""What an experiment says that it costs, beside what torch counts while it runs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from text_loops import LANGUAGE, TEXTS, TRANSLATION
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from replicate import datasets, models, paths
from replicate.sources.protocol import Source
from replicate.sources.zhang2019lookahead import _language, _text_operations, _translation
from replicate.sources.zhang2019lookahead.presets import PRESETS, tiny

SOURCE = Source("zhang2019lookahead")
SMALL = replace(tiny(PRESETS["cpu"]["digits"]), seeds=(0,), nets=("batch norm", "group norm"))
ON_TEXT = ("language_model", "translation")
COUNTING = [name for name in SOURCE if SOURCE[name].operations and name not in ON_TEXT]


@pytest.mark.parametrize("name", COUNTING)
def test_the_cost_is_what_torch_counts(name, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    with FlopCounterMode(display=False) as counter:
        SOURCE[name](SMALL)
    assert counter.get_total_flops() == pytest.approx(SOURCE[name].operations(SMALL), rel=1e-12)


def test_every_stage_that_needs_data_tells_its_hours():
    stages = [each for name in SOURCE if (each := SOURCE[name]).night and each.needs_data]
    assert {each.name for each in stages} == {*COUNTING, *ON_TEXT}


# Text.


@pytest.fixture
def plain_kernels():
    """torch's counter sees an LSTM's and attention's matrix products only where they are not fused."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield
    torch.backends.mha.set_fastpath_enabled(fused)


@pytest.fixture
def described(monkeypatch):
    """The made-up texts, as large as they are, in the places of the real ones."""
    corpus, pairs = TEXTS["ptb"], TEXTS["multi30k"]
    sizes = tuple(len(text) for text in (corpus.train, corpus.valid, corpus.test))
    sentences = tuple(len(split[0]) for split in (pairs.train, pairs.valid, pairs.test))
    known = {
        "ptb": SimpleNamespace(tokens=sizes, types=len(corpus.words)),
        "multi30k": SimpleNamespace(sentences=sentences),
    }
    monkeypatch.setattr(datasets, "describe", known.__getitem__)
    monkeypatch.setattr(datasets, "load", TEXTS.__getitem__)


def count_by_torch(call) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_a_word_costs_what_torch_counts(plain_kernels, described):
    model = models.awd_lstm(_language.shape(LANGUAGE, datasets.describe("ptb").types), 0)
    words = torch.zeros(7, 3, dtype=torch.int64)
    counted = count_by_torch(lambda: model(words))
    assert counted == pytest.approx(21 * _text_operations.per_word(LANGUAGE), rel=1e-12)


@pytest.mark.parametrize("length", [1, 5, 21])
def test_a_sentence_costs_what_torch_counts(length, plain_kernels):
    model = models.translator(_translation.sizes(TRANSLATION, TRANSLATION.pieces), 0)
    source = torch.ones(2, _text_operations.SOURCE_LENGTH, dtype=torch.int64)
    target = torch.ones(2, length, dtype=torch.int64)
    memory = model.encode(source)
    read = count_by_torch(lambda: model.encode(source))
    assert read == pytest.approx(2 * _text_operations.count_encoder(TRANSLATION), rel=1e-12)
    written = count_by_torch(lambda: model.decode(target, *memory))
    expected = 2 * _text_operations.count_decoder(TRANSLATION, length)
    assert written == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", ["sgd", "lookahead-adam"])
def test_a_run_on_running_text_costs_what_torch_counts(method, plain_kernels, described):
    """But for words that fill no row, and gradients of the zeros that an epoch begins with."""
    point = {"seed": 0, "method": method, "lr": 0.01}
    counted = count_by_torch(lambda: _language.language_run(LANGUAGE, point, None, [], "cpu"))
    assert _text_operations.count_language(LANGUAGE, [point]) == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("method", ["adam", "lookahead-warmup"])
def test_a_run_on_pairs_costs_what_torch_counts(method, plain_kernels, described, monkeypatch):
    """Its sentences as long as they are on the average; a translation may end early."""
    settings = replace(TRANSLATION, seeds=(0,))
    data = _translation.Bilingual.load(settings, "cpu")
    shapes = [
        [part.shape[1] for part in data.train.batch(0, step)] for step in range(settings.steps)
    ]
    source, target = np.mean(shapes, axis=0)
    monkeypatch.setattr(_text_operations, "SOURCE_LENGTH", source)
    monkeypatch.setattr(_text_operations, "TARGET_LENGTH", target - 1)
    point = {"seed": 0, "method": method, "lr": 0.001}
    counted = count_by_torch(lambda: _translation.translation_run(settings, point, None, [], "cpu"))
    counts = _text_operations.count_translation(settings, [point])
    assert counts == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize("name", ON_TEXT)
def test_a_stage_on_text_times_a_step_of_the_count_it_gives(name, plain_kernels):
    (entry,) = SOURCE[name].datasets
    settings = PRESETS["smoke"][entry]
    step, operations = SOURCE[name].timed_step(settings, "cpu")
    step()
    assert count_by_torch(step) == pytest.approx(operations, rel=0.05)
    seeds, alone = (0, 1, 2), replace(settings, seeds=(0,))
    of_three = SOURCE[name].operations(replace(settings, seeds=seeds))
    assert of_three == pytest.approx(3 * SOURCE[name].operations(alone))
