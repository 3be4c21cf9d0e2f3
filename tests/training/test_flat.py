"""One vector is the same run as a list of tensors, with any optimizer, in every idiom of a training
loop.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate.datasets import Batches
from replicate.models import mlp, resnet8
from replicate.optim import LBFGS, SGD, Adam, AdamW, Lookahead
from replicate.training import Flat, State, branch, evaluate, flat_weights, load_flat, steps
from replicate.training.schedules import constant
from replicate.training.weights import live_weights

DRAW = np.random.default_rng(0)
DATA = Batches(
    DRAW.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8),
    DRAW.integers(0, 4, 96),
    16,
    4,
    pad=1,
    flip=True,
)
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=1.0, momentum=0.9, weight_decay=1e-3),
    "fused": lambda p: SGD(p, lr=1.0, momentum=0.9, weight_decay=1e-3, fused=True),
    "adam": lambda p: Adam(p, lr=1.0),
    "adamw": lambda p: AdamW(p, lr=1.0),
    "lookahead": lambda p: Lookahead(
        SGD(p, lr=1.0, momentum=0.9, fused=True), k=3, inner_state="interpolate"
    ),
}


def network(kind):
    return mlp(192, (16,), 4, 0) if kind == "mlp" else resnet8(4, 0, width=4)


def trained(model, optimizer, stop=14):
    start = State(model, OPTIMIZERS[optimizer](model.parameters()))
    return branch(start, DATA, constant(0.01), 0, 0, stop)


@pytest.mark.parametrize("kind", ["mlp", "resnet8"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_on_one_vector_is_the_run_on_the_list(kind, optimizer):
    listed, flat = trained(network(kind), optimizer), trained(Flat(network(kind)), optimizer)
    assert torch.allclose(
        flat_weights(flat.model), flat_weights(listed.model), rtol=1e-4, atol=1e-5
    )
    buffers = zip(listed.model.buffers(), flat.model.buffers(), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in buffers)


def test_in_float64_the_two_are_equal_to_the_last_digits():
    ends = [
        flat_weights(trained64(model))
        for model in (network("mlp").double(), Flat(network("mlp").double()))
    ]
    assert (ends[0] - ends[1]).abs().max() < 1e-14


def trained64(model):
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(10):
        x, y = DATA.batch(0, 0, step)
        optimizer.zero_grad()
        functional.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("order", ["before the forward pass", "after it", "by the model"])
def test_gradients_are_those_of_one_batch_in_every_idiom(to_none, order):
    model, reference = Flat(network("mlp")), network("mlp")
    optimizer = SGD(model.parameters(), lr=0.1)
    for step in range(3):
        x, y = DATA.batch(0, 0, step)
        if order == "before the forward pass":
            optimizer.zero_grad(set_to_none=to_none)
        loss = functional.cross_entropy(model(x), y)
        if order == "after it":
            optimizer.zero_grad(set_to_none=to_none)
        if order == "by the model":
            model.zero_grad(set_to_none=to_none)
        loss.backward()
        load_flat(reference, flat_weights(model))
        expected = torch.autograd.grad(
            functional.cross_entropy(reference(x), y), list(reference.parameters())
        )
        assert torch.allclose(
            model.weights.grad, torch.cat([g.reshape(-1) for g in expected]), atol=1e-7
        )
        optimizer.step()


def test_one_parameter_and_the_same_vector_as_the_list():
    model = Flat(network("resnet8"))
    assert [name for name, _ in model.named_parameters()] == ["weights"]
    assert torch.equal(flat_weights(model), flat_weights(network("resnet8")))
    assert (
        live_weights(model).data_ptr() == model.weights.data_ptr() != flat_weights(model).data_ptr()
    )
    load_flat(model, torch.arange(float(len(model.weights))))
    assert torch.equal(live_weights(model), torch.arange(float(len(model.weights))))


def test_the_same_weights_have_the_same_worth():
    model, flat = network("resnet8"), Flat(network("resnet8"))
    x, y = DATA.batch(0, 0, 0)
    assert evaluate(model, x, y) == pytest.approx(evaluate(flat, x, y), rel=1e-6)


def test_a_copy_is_bound_to_its_own_vector():
    start = State(Flat(network("mlp")), None)
    start = State(start.model, OPTIMIZERS["fused"](start.model.parameters()))
    before = flat_weights(start.model)
    end = branch(start, DATA, constant(0.1), 0, 0, 5)
    assert torch.equal(flat_weights(start.model), before) and not torch.equal(
        flat_weights(end.model), before
    )
    twin = copy.deepcopy(start.model)
    load_flat(twin, torch.zeros_like(before))
    x, _ = DATA.batch(0, 0, 0)
    assert not torch.allclose(twin(x), start.model(x))


def test_a_state_dict_goes_round():
    model, other = trained(Flat(network("resnet8")), "fused").model, Flat(network("resnet8"))
    other.load_state_dict(model.state_dict())
    x, _ = DATA.batch(0, 0, 0)
    assert torch.equal(model.eval()(x), other.eval()(x))
    assert "weights" in model.state_dict() and len(model.state_dict()) == 1 + len(
        list(model.buffers())
    )


def test_a_parameter_used_twice_is_there_once():
    shared = nn.Linear(6, 6)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), shared, nn.ReLU(), shared)
    count = sum(p.numel() for p in model.parameters())
    x, _ = DATA.batch(0, 0, 0)
    expected = model(x)
    flat = Flat(model)
    assert flat.weights.shape == (count,) and torch.equal(flat(x), expected)


def test_closures_work():
    model = Flat(network("mlp"))
    optimizer = LBFGS(model.parameters(), max_iter=5)
    x, y = DATA.batch(0, 0, 0)

    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    first = float(optimizer.step(closure).detach())
    assert float(closure().detach()) < first


def test_after_an_error_in_the_forward_pass_the_model_is_as_before():
    model = Flat(network("mlp"))
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 5))
    assert len(list(model.parameters())) == 1 and not any(
        "weight" in m.__dict__ for m in model.modules()
    )
    assert len(list(steps(model, DATA, SGD(model.parameters()), constant(0.1), 0, 0, 0, 2))) == 2


def frozen():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nn.ReLU, "model must have parameters, got ReLU with none"),
        (frozen, "parameters must all be trained, got bias frozen"),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()),
            "must be of one floating-point type",
        ),
    ],
)
def test_models_that_have_no_such_vector_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        Flat(make())


def test_a_model_without_parameters_has_no_weights():
    with pytest.raises(ValueError, match="model must have parameters, got ReLU with none"):
        flat_weights(nn.ReLU())
