"""What cannot be compared is refused in one line, before anything runs where that can be known."""

import re

import pytest
import torch
from quadratics import Quadratic, compare_quadratic, draw, loss
from torch import nn

from replicate import compare
from replicate.averaging import swa
from replicate.errors import BadParameter, Diverged
from replicate.optim import KeepStepping

PLAIN = {"window": 5, "steps": 20, "branches": 2, "runs": 1}


def ask(model=None, optimizer=None, **changes):
    model = Quadratic() if model is None else model
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    given = {"loss": loss, "batches": draw, **PLAIN, **changes}
    return compare(model, optimizer=optimizer, **given)


def refusal(kind, **changes) -> str:
    """The one line with which the call is refused."""
    with pytest.raises(kind) as error:
        ask(**changes)
    (line,) = str(error.value).splitlines()
    return line


def test_a_model_without_parameters():
    weight = nn.Parameter(torch.zeros(1))
    assert re.search(
        "model must have parameters, got ReLU with none",
        refusal(BadParameter, model=nn.ReLU(), optimizer=torch.optim.SGD([weight], lr=0.1)),
    )


def test_an_optimizer_of_another_model():
    stray = torch.optim.SGD(Quadratic().parameters(), lr=0.1)
    assert re.search(
        "got 1 that it does not have", refusal(BadParameter, model=Quadratic(), optimizer=stray)
    )


@pytest.mark.parametrize("given, line", [
    ({"model": torch.sin, "optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)},
     "model must be a torch Module, got builtin_function_or_method"),
    ({"optimizer": "SGD"}, "optimizer must be a torch Optimizer, got str"),
])  # fmt: skip
def test_what_is_no_model_or_no_optimizer(given, line):
    assert re.search(line, refusal(BadParameter, **given))


@pytest.mark.parametrize("make, line", [
    (torch.optim.LBFGS, "without a closure, got LBFGS, which asks for one"),
    (lambda p: KeepStepping(p, lr=0.1), "KeepStepping.step needs a closure"),
])  # fmt: skip
def test_an_optimizer_that_looks_at_the_loss_again(make, line):
    model = Quadratic()
    asked = refusal(BadParameter, model=model, optimizer=make(model.parameters()))
    assert re.search(line, asked)


def test_an_optimizer_under_a_scheduler_is_taken():
    """torch wraps the step of such an optimizer, and of one in use by others."""
    model = Quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1000)
    assert len(ask(model, optimizer).table) == 2


def test_a_model_that_has_not_seen_a_batch():
    assert re.search("must have seen a batch", refusal(BadParameter, model=nn.LazyLinear(2)))


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"window": 30}, "window must fit 2 times into the run of 20 steps.*got 30"),
        ({"window": 11}, "window must fit 2 times into the run of 20 steps.*got 11"),
        ({"window": 0}, "window must be a whole number from 1 on, got 0"),
        ({"window": 2.5}, "window must be a whole number from 1 on, got 2.5"),
        ({"steps": 0}, "steps must be a whole number from 1 on"),
        ({"branches": 0}, "branches must be a whole number"),
        ({"runs": 0}, "runs must be a whole number"),
        ({"directions": -1}, "directions must be a whole number from 0"),
        ({"norm_batches": 0}, "norm_batches must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"kernel": lambda k: swa(2)}, "kernel must give 6 weights.*got 3"),
        ({"kernel": lambda k: torch.ones(k + 1).numpy()}, "kernel: mu must be .*sum to 1"),
        ({"kernel": "swa"}, "kernel must be a function of the window.*got 'swa'"),
        ({"held_out": []}, "held_out must hold at least one batch"),
        ({"batches": iter([])}, "which gives each batch once"),
        ({"batches": lambda stream, step: None}, "used up at step 0"),
        ({"loss": lambda model, batch: model.w}, "loss must give a tensor of one number, got .5,."),
        ({"loss": lambda model, batch: 3.0}, "loss must give a tensor of one number, got float"),
        ({"loss": lambda model, batch: batch.sum()}, "must depend on the model's parameters"),
        ({"directions": 3, "schedule": lambda step: 1.0}, "directions needs .*under a schedule"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be(changes, line):
    assert re.search(line, refusal(BadParameter, **changes))


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.Adam(p), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
])  # fmt: skip
def test_theory_is_not_asked_about_what_it_does_not_cover(make):
    model = Quadratic()
    assert re.search(
        "directions needs torch.optim.SGD",
        refusal(BadParameter, model=model, directions=2, optimizer=make(model.parameters())),
    )


def test_a_window_that_just_fits_is_taken():
    assert len(ask(window=10).table) == 2


def test_a_loss_that_is_not_finite_names_walk_and_step():
    def poisoned(stream, step):
        return draw(stream, step) * (float("nan") if (stream, step) == (5, 7) else 1)

    assert re.search(
        r"loss became nan at step 7 of run 1, constant \(rate 0.1\)",
        refusal(Diverged, batches=poisoned),
    )


def test_a_run_that_diverges_names_its_rate():
    model = Quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    assert re.search(
        r"loss became (inf|nan) at step \d+ of run 1, window \(rate 1e\+30\)",
        refusal(Diverged, model=model, optimizer=optimizer),
    )


def test_a_held_out_loss_that_is_not_finite():
    assert re.search(
        "loss on the held-out batches is nan",
        refusal(Diverged, held_out=[torch.full((5,), float("nan")).double()]),
    )


def test_batches_that_end_within_the_run_are_named_with_their_step():
    def short(stream, step):
        return draw(stream, step) if step < 12 else None

    assert re.search("used up at step 12 of stream 0", refusal(BadParameter, batches=short))
    assert re.search(
        "used up at step 12 of stream 4",
        refusal(BadParameter, batches=short, held_out=[torch.zeros(5).double()]),
    )


def test_weights_come_back_after_an_error():
    model = Quadratic()
    with pytest.raises(BadParameter, match="used up"):
        ask(model, batches=lambda stream, step: draw(stream, step) if step < 12 else None,
            held_out=[torch.zeros(5).double()])  # fmt: skip
    assert torch.equal(model.w, torch.zeros(5).double()) and model.w.grad is None


def test_a_parameter_that_nothing_trains_is_no_matter():
    class Wider(Quadratic):
        def __init__(self):
            super().__init__()
            self.still = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)

    wide = Wider()
    optimizer = torch.optim.SGD([wide.w], lr=0.05, momentum=0.9)
    still = [torch.zeros(5, dtype=torch.float64)]
    given = {"window": 20, "steps": 120, "held_out": still, "directions": 2, "runs": 2}
    expected = compare_quadratic(directions=2).table
    got = ask(wide, optimizer, **given).table
    assert got.drop(columns=["predicted_average", "predicted_cool_down"]).equals(
        expected.drop(columns=["predicted_average", "predicted_cool_down"])
    )
    assert got.predicted_average.notna().sum() == 2
