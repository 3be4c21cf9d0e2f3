"""Reading a text is a plain loop over windows, and what is measured is the mean over its words."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from replicate.errors import Diverged
from replicate.models import Shape, awd_lstm, penalise
from replicate.optim import SGD
from replicate.streams import rng
from replicate.training import TextReader, flat_weights, measure_text

SHAPE = Shape(30, 5, 7, 2, 0.1, 0.3, 0.2, 0.2, 0.4)
COLUMNS = torch.from_numpy(np.random.default_rng(0).integers(0, 30, (41, 4)))
WINDOWS = [(0, 8), (8, 11), (11, 25), (25, 40)]
BPTT, CLIP, DECAY = 10, 0.05, 0.01


def penalty(outputs):
    return penalise(outputs, 2.0, 1.0)


def reader(shape=SHAPE, seed=3, clip=CLIP):
    model = awd_lstm(shape, seed)
    optimizer = SGD(model.parameters(), lr=1.0, weight_decay=DECAY)
    return TextReader(model, COLUMNS, optimizer, penalty, BPTT, clip, seed)


def read_plainly(seed, windows, rate, first=0, model=None, hidden=None):
    """(model, hidden, losses): the loop of the page."""
    model = model or awd_lstm(SHAPE, seed)
    parameters, losses = list(model.parameters()), []
    for number, (start, stop) in enumerate(windows, first):
        torch.manual_seed(int(rng(seed, "dropout", number).integers(2**63)))
        outputs = model(COLUMNS[start:stop], hidden)
        logits, words = outputs.logits.reshape(-1, 30), COLUMNS[start + 1 : stop + 1].reshape(-1)
        loss = -logits.log_softmax(1)[torch.arange(len(words)), words].mean()
        gradients = torch.autograd.grad(loss + penalty(outputs), parameters)
        norm = torch.cat([g.reshape(-1) for g in gradients]).norm()
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p -= rate * (stop - start) / BPTT * (g * min(1.0, CLIP / norm) + DECAY * p)
        hidden = [(h.detach(), c.detach()) for h, c in outputs.hidden]
        losses.append(float(loss.detach()))
    return model, hidden, losses


def test_reading_is_the_loop_of_the_page():
    run = reader()
    loss = run.read(WINDOWS[:3], 2.0), run.read(WINDOWS[3:], 1.0)
    model, hidden, losses = read_plainly(3, WINDOWS[:3], 2.0)
    model, hidden, last = read_plainly(3, WINDOWS[3:], 1.0, 3, model, hidden)
    torch.testing.assert_close(flat_weights(run.model), flat_weights(model))
    words = [stop - start for start, stop in WINDOWS[:3]]
    assert loss == (pytest.approx(np.average(losses, weights=words)), pytest.approx(last[0]))
    assert run.step == 4


def test_an_epoch_begins_without_memory():
    run, memoryless = reader(), reader()
    for each in (run, memoryless):
        each.read(WINDOWS[:1], 1.0)
    memoryless.begin()
    assert run.read(WINDOWS[1:2], 1.0) != memoryless.read(WINDOWS[1:2], 1.0)


def test_a_gradient_below_the_bound_is_not_clipped():
    free, loose, tight = reader(clip=1e9), reader(clip=50.0), reader()
    for each in (free, loose, tight):
        each.read(WINDOWS, 1.0)
    assert torch.equal(flat_weights(free.model), flat_weights(loose.model))
    assert not torch.equal(flat_weights(free.model), flat_weights(tight.model))


def test_averages_are_told_of_the_model_after_every_window():
    class Told:
        def __init__(self):
            self.weights = []

        def update(self, model):
            self.weights.append(flat_weights(model))

    told, run = Told(), reader()
    run.read(WINDOWS, 1.0, [told])
    assert len(told.weights) == 4
    for count, weights in enumerate(told.weights, 1):
        expected = read_plainly(3, WINDOWS[:count], 1.0)[0]
        torch.testing.assert_close(weights, flat_weights(expected))


def test_torch_s_generator_is_left_alone():
    run = reader()
    state = torch.get_rng_state()
    run.read(WINDOWS, 1.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loss_that_is_not_finite_is_named_by_its_window():
    run = reader()
    run.read(WINDOWS[:2], 1.0)
    with torch.no_grad():
        run.model.bias.fill_(float("nan"))
    with pytest.raises(Diverged, match="at window 2") as caught:
        run.read(WINDOWS[2:], 1.0)
    assert caught.value.step == 2


@pytest.mark.parametrize("length", [1, 7, 40, 100])
def test_what_is_measured_is_the_mean_over_all_words_whatever_is_read_at_once(length):
    model = awd_lstm(SHAPE, 3)
    value = measure_text(model, COLUMNS, length)
    assert model.training
    with torch.no_grad():
        logits = model.eval()(COLUMNS[:-1]).logits.double()
    expected = functional.cross_entropy(logits.flatten(0, 1), COLUMNS[1:].flatten())
    assert value == pytest.approx(float(expected), rel=1e-6)
