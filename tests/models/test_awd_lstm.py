"""The AWD-LSTM against a dull loop over words and units' equations, every mask on its own."""

from dataclasses import replace
from math import sqrt

import pytest
import torch

from replicate.models import AWDLSTM, Shape, awd_lstm, penalise

PLAIN = Shape(words=30, embedding=5, hidden=7, layers=3)
DROPS = {
    "word_drop": 0.3,
    "input_drop": 0.4,
    "hidden_drop": 0.25,
    "output_drop": 0.35,
    "weight_drop": 0.5,
}
LENGTH, BATCH = 6, 4


def draw(shape, drop):
    """A mask from torch's generator: 0 with probability drop, else 1 / (1 - drop)."""
    return torch.empty(shape).bernoulli_(1 - drop) / (1 - drop) if drop else torch.ones(shape)


def cell(layer, recurrent, x, h, c):
    """One step of a layer: the LSTM's equations, gate by gate."""
    both = layer.weight_ih_l0 @ x + layer.bias_ih_l0 + recurrent @ h + layer.bias_hh_l0
    i, f, g, o = both.split(len(h))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def read_dully(model, tokens, hidden=None, masks=True):
    """(logits, ends, last, dropped) by loops over layers, columns and words."""
    shape = model.shape
    drops = dict.fromkeys(DROPS, 0.0) if not masks else {n: getattr(shape, n) for n in DROPS}
    batch = tokens.shape[1]
    table = model.embedding.weight * draw((shape.words, 1), drops["word_drop"])
    lock = draw((1, batch, shape.embedding), drops["input_drop"])[0]
    rows = [[table[word] * lock[b] for b, word in enumerate(words)] for words in tokens.tolist()]
    ends = []
    for number, layer in enumerate(model.layers):
        recurrent = layer.weight_hh_l0 * draw(layer.weight_hh_l0.shape, drops["weight_drop"])
        units = layer.hidden_size
        last = [[None] * batch for _ in rows]
        end = []
        for b in range(batch):
            h, c = torch.zeros(units), torch.zeros(units)
            if hidden is not None:
                h, c = (part[0, b] for part in hidden[number])
            for t, words in enumerate(rows):
                h, c = cell(layer, recurrent, words[b], h, c)
                last[t][b] = h
            end.append((h, c))
        ends.append(end)
        is_last = number == shape.layers - 1
        lock = draw((1, batch, units), drops["output_drop" if is_last else "hidden_drop"])[0]
        rows = [[h * lock[b] for b, h in enumerate(words)] for words in last]
    dropped = torch.stack([torch.stack(words) for words in rows])
    last = torch.stack([torch.stack(words) for words in last])
    return dropped @ model.embedding.weight.T + model.bias, ends, last, dropped


@pytest.fixture
def tokens():
    return torch.randint(30, (LENGTH, BATCH), generator=torch.Generator().manual_seed(5))


def read_twice(model, tokens, hidden=None, masks=True):
    """What the model and the dull loop make of the same tokens and the same draws: [(its, dull)],
    and the hidden state to go on from.
    """
    torch.manual_seed(11)
    outputs = model(tokens, hidden)
    torch.manual_seed(11)
    logits, ends, last, dropped = read_dully(model, tokens, hidden, masks)
    pairs = [(outputs.logits, logits), (outputs.last, last), (outputs.dropped, dropped)]
    for (h, c), end in zip(outputs.hidden, ends, strict=True):
        pairs.append((h[0], torch.stack([each[0] for each in end])))
        pairs.append((c[0], torch.stack([each[1] for each in end])))
    return pairs, outputs.hidden


def are_equal(pairs) -> bool:
    for its, dull in pairs:
        torch.testing.assert_close(its, dull)
    return bool(pairs)


@pytest.mark.parametrize("only", [*DROPS, "none", "all"])
def test_each_regulariser_is_a_dull_loop_s(only, tokens):
    chosen = DROPS if only == "all" else {name: DROPS[name] for name in DROPS if name == only}
    model = awd_lstm(replace(PLAIN, **chosen), seed=2)
    first, hidden = read_twice(model, tokens)
    second, _ = read_twice(model, tokens, hidden)
    assert are_equal(first + second)


def test_the_last_layer_is_as_wide_as_the_embedding_whose_matrix_the_output_is():
    assert PLAIN.widths == [(5, 7), (7, 7), (7, 5)]
    assert replace(PLAIN, layers=1).widths == [(5, 5)]
    model = awd_lstm(PLAIN, seed=2)
    assert sum(p.numel() for p in model.parameters() if p.shape[0] == 30) == 30 * 5 + 30
    with torch.no_grad():
        model.embedding.weight.add_(1.0)
    pairs, _ = read_twice(model, torch.tensor([[3], [4]]))
    assert are_equal(pairs)


def test_without_training_nothing_is_dropped(tokens):
    model = awd_lstm(replace(PLAIN, **DROPS), seed=2).eval()
    pairs, _ = read_twice(model, tokens, masks=False)
    assert are_equal(pairs)


def test_the_dropped_recurrent_weights_are_gone_after_the_window(tokens):
    model = awd_lstm(replace(PLAIN, weight_drop=0.9), seed=2)
    before = model.eval()(tokens).logits
    model.train()(tokens)
    torch.testing.assert_close(model.eval()(tokens).logits, before)


def test_gradients_are_those_of_the_dull_loop(tokens):
    model = awd_lstm(replace(PLAIN, **DROPS), seed=2)
    gradients = []
    for read in (lambda: model(tokens).logits, lambda: read_dully(model, tokens)[0]):
        torch.manual_seed(3)
        model.zero_grad()
        read().logsumexp(-1).mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for fast, dull in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, dull)
    # A word that was dropped, or that is not there, learns from the output alone; none is left out.
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


def test_penalties_are_those_of_the_page(tokens):
    model = awd_lstm(replace(PLAIN, **DROPS), seed=2)
    model.requires_grad_(False)
    outputs = model(tokens)
    activation = sum(float(x) ** 2 for x in outputs.dropped.flatten()) / (LENGTH * BATCH * 5)
    changes = [outputs.last[t + 1] - outputs.last[t] for t in range(LENGTH - 1)]
    change = sum(float(x) ** 2 for d in changes for x in d.flatten()) / ((LENGTH - 1) * BATCH * 5)
    assert float(penalise(outputs, 2.0, 0.0)) == pytest.approx(2 * activation, rel=1e-5)
    assert float(penalise(outputs, 0.0, 3.0)) == pytest.approx(3 * change, rel=1e-5)
    assert float(penalise(model(tokens[:1]), 0.0, 3.0)) == 0.0


def test_the_weights_are_those_of_the_seed():
    model, same, other = (awd_lstm(PLAIN, seed) for seed in (2, 2, 3))
    for a, b, c in zip(*(each.parameters() for each in (model, same, other)), strict=True):
        assert torch.equal(a, b) and (not torch.equal(a, c) or not a.any())
    wide = awd_lstm(Shape(400, 100, 60, 2), seed=0).requires_grad_(False)
    assert wide.embedding.weight.abs().max() <= 0.1
    assert wide.embedding.weight.std() == pytest.approx(0.1 / sqrt(3), rel=0.02)
    assert not wide.bias.any()
    for layer, units in zip(wide.layers, (60, 100), strict=True):
        for name, parameter in layer.named_parameters():
            bound = units**-0.5
            assert parameter.abs().max() <= bound, name
            assert parameter.std() == pytest.approx(bound / sqrt(3), rel=0.1), name


def test_building_leaves_torch_s_generator_alone():
    state = torch.get_rng_state()
    awd_lstm(PLAIN, seed=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_paper_s_network_has_24_million_weights():
    with torch.device("meta"):
        model = AWDLSTM(Shape(10_000, 400, 1150, 3))
    assert sum(p.numel() for p in model.parameters()) == 24_221_600
