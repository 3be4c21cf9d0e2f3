"""The graph's gradient is the plain one: same batches, same BatchNorm statistics, whoever touches
`.grad` meanwhile.
"""

import copy

import numpy as np
import pytest
import torch

from replicate.datasets import Batches
from replicate.models import mlp, resnet8
from replicate.optim import SGD
from replicate.training import Flat, flat_weights
from replicate.training.gradient import (
    WARM,
    GraphedGradient,
    GraphedGradients,
    cuda_graph,
    gradient_of,
    plain_gradient,
    restore_buffers,
)

DRAW = np.random.default_rng(0)
X, Y = DRAW.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8), DRAW.integers(0, 4, 96)
STEPS = [(0, 0, 0), (0, 0, 1), (0, 0, 7), (3, 0, 7), (3, 2, 8), (0, 0, 0)]


def data(device="cpu"):
    about = {"pad": 1, "flip": True, "pixel_noise": 0.1, "label_noise": 0.3, "cutout": 2}
    return Batches(X, Y, 16, 4, device, **about)


def replayed(compute):
    """A capture without a GPU: the runs that warm up, and then the computation itself, in place of
    its graph.
    """
    for _ in range(WARM):
        compute()
    return compute


def network(kind):
    model = mlp(192, (16,), 4, 0) if kind == "mlp" else resnet8(4, 0, width=4)
    return Flat(model) if kind == "flat resnet8" else model


@pytest.mark.parametrize("kind", ["mlp", "resnet8", "flat resnet8"])
def test_steps_with_the_graphs_gradient_are_the_plain_steps_to_the_bit(kind):
    models = [network(kind), network(kind)]
    optimizers = [SGD(model.parameters(), lr=0.05, momentum=0.9) for model in models]
    graph, plain = GraphedGradient(models[0], data(), replayed), data()
    for where in STEPS:
        losses = [graph(*where), plain_gradient(models[1], plain, *where)]
        for optimizer in optimizers:
            optimizer.step()
        optimizers[0].zero_grad()
        assert torch.equal(*losses)
    assert torch.equal(*(flat_weights(model) for model in models))
    assert all(
        torch.equal(a, b) for a, b in zip(models[0].buffers(), models[1].buffers(), strict=True)
    )


def test_a_gradient_that_was_taken_off_its_parameter_is_put_back():
    """As a graph does it, a replay fills the memory of its first run and leaves the parameters
    alone.
    """
    model, twin = network("resnet8"), network("resnet8")

    def capture(compute):
        compute()
        memory = graph._gradients

        def replay():
            compute()
            for kept, new in zip(memory, graph._gradients, strict=True):
                kept.copy_(new)
            graph._gradients = memory
            model.zero_grad()

        return replay

    graph = GraphedGradient(model, data(), capture)
    for where in STEPS[:3]:
        graph(*where)
        plain_gradient(twin, data(), *where)
        assert all(
            torch.equal(a.grad, b.grad)
            for a, b in zip(model.parameters(), twin.parameters(), strict=True)
        )


def test_several_models_in_one_graph_are_each_alone():
    models, alone = [network("resnet8"), network("mlp")], [network("resnet8"), network("mlp")]
    together, plain, runs = GraphedGradients(models, data(), replayed), data(), [(0, 0), (3, 2)]
    for step in (0, 1, 7):
        losses = together(runs, step)
        for i, (seed, stream) in enumerate(runs):
            assert torch.equal(losses[i], plain_gradient(alone[i], plain, seed, stream, step))
        for pair in zip(models, alone, strict=True):
            assert all(
                torch.equal(a.grad, b.grad)
                for a, b in zip(*(m.parameters() for m in pair), strict=True)
            )
    assert all(
        torch.equal(a, b) for a, b in zip(models[0].buffers(), alone[0].buffers(), strict=True)
    )


def test_losses_that_were_given_out_stay_what_they_were():
    model = network("mlp")
    graph = GraphedGradient(model, data(), replayed)
    first = graph(0, 0, 0)
    value = first.clone()
    graph(0, 0, 1)
    assert torch.equal(first, value)


def test_on_a_cpu_the_gradient_is_the_plain_one():
    model, twin = network("resnet8"), network("resnet8")
    assert torch.equal(gradient_of(model, data())(3, 1, 4), plain_gradient(twin, data(), 3, 1, 4))
    assert not isinstance(gradient_of(model, data()), GraphedGradient)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("kind", ["mlp", "resnet8", "flat resnet8"])
def test_on_cuda_the_graph_is_the_plain_gradient(kind):
    model = network(kind).to("cuda")
    twin = copy.deepcopy(model)
    graph, plain = GraphedGradient(model, data("cuda"), cuda_graph), data("cuda")
    for where in STEPS:
        torch.testing.assert_close(
            graph(*where), plain_gradient(twin, plain, *where), rtol=1e-4, atol=1e-5
        )
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)
    assert gradient_of(model, plain) is gradient_of(model, plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_on_cuda_several_models_in_one_graph_are_each_alone():
    models = [network("resnet8").to("cuda") for _ in range(3)]
    twin, plain = copy.deepcopy(models[2]), data("cuda")
    together = GraphedGradients(models, data("cuda"), cuda_graph)
    for step in (0, 1, 7):
        loss = together([(0, 0), (1, 0), (2, 1)], step)[2]
        torch.testing.assert_close(
            loss, plain_gradient(twin, plain, 2, 1, step), rtol=1e-4, atol=1e-5
        )


def test_buffers_that_warming_up_moved_are_put_back_after_an_error_too():
    buffer = torch.zeros(2)
    with pytest.raises(OSError), restore_buffers([buffer]):
        buffer.add_(1)
        raise OSError("capture broke")
    assert buffer.tolist() == [0, 0]
