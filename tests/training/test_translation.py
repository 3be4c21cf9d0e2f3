"""Training on pairs is a plain loop, translating is taking the likeliest piece again and again."""

import math
import warnings

import pytest
import torch

from replicate.datasets import PIECE_MARKS, Sentences
from replicate.errors import Diverged
from replicate.models import Sizes, translator
from replicate.optim import SGD
from replicate.streams import rng
from replicate.training import flat_weights, lend, measure_pairs, translate, translation_steps

SIZES = Sizes(20, 8, 2, 1, 12, dropout=0.2)
SOURCE = [[4 + (i * j) % 15 for j in range(1, 2 + i % 5)] for i in range(30)]
TARGET = [[4 + (i + j) % 15 for j in range(1, 2 + i % 4)] for i in range(30)]
DATA = Sentences(SOURCE, TARGET, 6)


def smooth_loss(logits, pieces, smoothing):
    """Mean cross-entropy with the distribution (1 - s) one-hot + s / pieces, piece by piece."""
    losses = []
    for row, sentence in zip(logits.log_softmax(-1), pieces.tolist(), strict=True):
        for log_p, piece in zip(row, sentence, strict=True):
            if piece != 0:
                losses.append(-(1 - smoothing) * log_p[piece] - smoothing * log_p.mean())
    return torch.stack(losses).mean()


def schedule(step):
    return 0.02 * (step + 1)


def run(model, steps, averages=(), seed=5):
    optimizer = SGD(model.parameters(), lr=1.0)
    return list(translation_steps(model, DATA, optimizer, schedule, 0.1, seed, steps, averages))


def test_a_run_is_the_loop_of_the_page():
    model, plain = translator(SIZES, 2), translator(SIZES, 2)
    seen = run(model, range(7))
    optimizer, losses = torch.optim.SGD(plain.parameters()), []
    for step in range(7):
        source, target = DATA.batch(5, step)
        torch.manual_seed(int(rng(5, "dropout", step).integers(2**63)))
        loss = smooth_loss(plain(source, target[:, :-1]), target[:, 1:], 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert [step for step, _ in seen] == list(range(7))
    assert [loss for _, loss in seen] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(flat_weights(model), flat_weights(plain), rtol=1e-4, atol=1e-6)


def test_averages_are_told_every_iterate():
    class Told(list):
        def update(self, model):
            self.append(flat_weights(model))

    told, model = Told(), translator(SIZES, 2)
    run(model, range(3), [told])
    assert len(told) == 3 and torch.equal(told[-1], flat_weights(model))
    short = translator(SIZES, 2)
    run(short, range(2))
    assert torch.equal(told[1], flat_weights(short))


def test_a_loss_that_is_not_finite_ends_the_run():
    model = translator(SIZES, 2)
    with torch.no_grad():
        model.embedding.weight.fill_(math.inf)
    with pytest.raises(Diverged, match="step 4") as caught:
        run(model, range(4, 9))
    assert caught.value.step == 4


@pytest.mark.parametrize("chunk", [1, 4, 30])
def test_the_measured_loss_is_the_mean_over_all_pieces(chunk):
    model = translator(SIZES, 2)
    losses = []
    for row in range(1, 11):
        source, target = DATA.gather([row])
        log_p = model.eval()(source, target[:, :-1])[0].log_softmax(-1)
        losses += [-float(log_p[i, piece].detach()) for i, piece in enumerate(target[0, 1:])]
    model.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nested tensors would warn
        value = measure_pairs(model, DATA, range(1, 11), chunk)
    assert value == pytest.approx(sum(losses) / len(losses), rel=1e-5) and model.training


def test_a_translation_is_the_likeliest_piece_at_every_place():
    model = translator(SIZES, 2)
    run(model, range(40))
    source = DATA.gather(range(12))[0]
    translations = translate(model, source, PIECE_MARKS.begin, PIECE_MARKS.end, longest=6)
    assert model.training and {len(each) for each in translations} != {6}
    model.eval()
    for row, pieces in zip(source, translations, strict=True):
        row, expected = row[row != 0][None], [PIECE_MARKS.begin]
        while len(expected) < 7:
            piece = int(model(row, torch.tensor([expected]))[0, -1].argmax())
            if piece == PIECE_MARKS.end:
                break
            expected.append(piece)
        assert pieces == expected[1:]


def test_a_translation_that_does_not_end_is_cut():
    model = translator(SIZES, 2)
    with torch.no_grad():  # the last norm gives the seventh piece, and the end mark is its opposite
        seventh = model.embedding.weight[7].clone()
        model.embedding.weight[PIECE_MARKS.end] = -seventh
        model.transformer.decoder.norm.weight.fill_(0.0)
        model.transformer.decoder.norm.bias.copy_(seventh)
    [pieces] = translate(model, DATA.gather([0])[0], PIECE_MARKS.begin, PIECE_MARKS.end, longest=5)
    assert len(pieces) == 5 and PIECE_MARKS.end not in pieces


def test_lent_weights_are_given_back_even_after_an_error():
    model = translator(SIZES, 2)
    before = flat_weights(model)
    with pytest.raises(ZeroDivisionError), lend(model, torch.zeros_like(before)):
        assert not flat_weights(model).any()
        1 / 0  # noqa: B018
    assert torch.equal(flat_weights(model), before)
