"""The transformer against a dull one: loops over layers and heads, from the pages."""

from math import cos, sin, sqrt

import pytest
import torch

from replicate.models import Sizes, translator
from replicate.models.translator import place

SIZES = Sizes(pieces=40, width=12, heads=3, layers=2, feed_forward=20)
SOURCE = torch.tensor([[5, 6, 7, 3, 0], [8, 9, 10, 11, 3]])
TARGET = torch.tensor([[2, 15, 16, 0], [2, 17, 18, 19]])


def norm(x, layer):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * layer.weight + layer.bias


def attend(x, memory, layer, allowed):
    """Multi-head attention of one sentence: softmax(Q K^T / sqrt(d_k)) V, head by head."""
    width = x.shape[1]
    q_matrix, k_matrix, v_matrix = layer.in_proj_weight.split(width)
    q_bias, k_bias, v_bias = layer.in_proj_bias.split(width)
    q, k, v = x @ q_matrix.T + q_bias, memory @ k_matrix.T + k_bias, memory @ v_matrix.T + v_bias
    size = width // layer.num_heads
    heads = []
    for head in range(layer.num_heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T / sqrt(size)
        heads.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v[:, part])
    return torch.cat(heads, -1) @ layer.out_proj.weight.T + layer.out_proj.bias


def feed(x, layer):
    hidden = (x @ layer.linear1.weight.T + layer.linear1.bias).clamp(min=0)
    return hidden @ layer.linear2.weight.T + layer.linear2.bias


def add(x, sublayer, layer, first):
    """x + f(x), normalised behind (Vaswani et al. 2017) or f of the normalised x."""
    return x + sublayer(norm(x, layer)) if first else norm(x + sublayer(x), layer)


def embed(model, pieces):
    width = model.sizes.width
    rows = []
    for position, piece in enumerate(pieces.tolist()):
        angles = [position / 10_000 ** (2 * (i // 2) / width) for i in range(width)]
        waves = [cos(a) if i % 2 else sin(a) for i, a in enumerate(angles)]
        rows.append(model.embedding.weight[piece] * sqrt(width) + torch.tensor(waves))
    return torch.stack(rows)


def translate_dully(model, source, target):
    """Logits of one sentence without any padding."""
    first = model.sizes.norm_first
    everything = torch.ones(len(source), len(source), dtype=torch.bool)
    x = embed(model, source)
    for layer in model.transformer.encoder.layers:
        x = add(
            x, lambda y, layer=layer: attend(y, y, layer.self_attn, everything), layer.norm1, first
        )
        x = add(x, lambda y, layer=layer: feed(y, layer), layer.norm2, first)
    memory = norm(x, model.transformer.encoder.norm)
    before = torch.tensor([[j <= i for j in range(len(target))] for i in range(len(target))])
    across = torch.ones(len(target), len(source), dtype=torch.bool)
    x = embed(model, target)
    for layer in model.transformer.decoder.layers:
        x = add(x, lambda y, layer=layer: attend(y, y, layer.self_attn, before), layer.norm1, first)
        x = add(
            x,
            lambda y, layer=layer: attend(y, memory, layer.multihead_attn, across),
            layer.norm2,
            first,
        )
        x = add(x, lambda y, layer=layer: feed(y, layer), layer.norm3, first)
    return norm(x, model.transformer.decoder.norm) @ model.embedding.weight.T


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_transformer_of_the_page(norm_first, training):
    sizes = Sizes(40, 12, 3, 2, 20, dropout=0.0, norm_first=norm_first)
    model = translator(sizes, seed=1).train(training)
    logits = model(SOURCE, TARGET)
    assert logits.shape == (2, 4, 40)
    for row, (source, target) in enumerate(zip(SOURCE, TARGET, strict=True)):
        source, target = source[source != 0], target[target != 0]
        expected = translate_dully(model, source, target)
        torch.testing.assert_close(logits[row, : len(target)], expected, rtol=1e-4, atol=1e-5)


def test_what_comes_later_changes_nothing_before():
    model = translator(SIZES, seed=1).eval()
    other = TARGET.clone()
    other[1, 2:] = 33
    before, after = model(SOURCE, TARGET)[1], model(SOURCE, other)[1]
    torch.testing.assert_close(before[:2], after[:2])
    assert (before[2] - after[2]).abs().max() > 1e-3


def test_dropout_is_drawn_from_torch_s_generator_in_training_alone():
    model = translator(SIZES, seed=1)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(model(SOURCE, TARGET))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    model.eval()
    assert torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))


def test_an_odd_width_has_places_too():
    assert place(4, 5).shape == (4, 5)
    torch.testing.assert_close(place(4, 5)[:, 0], torch.arange(4.0).sin())


def test_the_weights_are_those_of_the_seed():
    model, same, other = (translator(SIZES, seed) for seed in (2, 2, 3))
    for a, b in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    drawn = [
        (a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True) if a.dim() > 1
    ]
    assert len(drawn) == 21 and not any(torch.equal(a, b) for a, b in drawn)
    wide = translator(Sizes(500, 64, 4, 1, 96), seed=0).requires_grad_(False)
    assert wide.embedding.weight.std() == pytest.approx(1 / 8, rel=0.02)
    matrix = wide.transformer.decoder.layers[0].linear1.weight
    assert matrix.abs().max() <= sqrt(6 / 160) and matrix.std() == pytest.approx(
        sqrt(2 / 160), rel=0.03
    )
    for name, parameter in wide.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == float("norm" in name and "weight" in name)).all(), name


def test_building_leaves_torch_s_generator_alone():
    state = torch.get_rng_state()
    translator(SIZES, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
