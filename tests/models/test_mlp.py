"""`mlp` is the chain of matrix products its docstring writes down."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from replicate.models import mlp

torch.set_num_threads(1)


def test_forward_equals_the_matrix_products_written_out():
    model = mlp(12, (7, 5), 3, seed=0).double()
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2))
    w1, b1, w2, b2, w3, b3 = (p.detach().numpy() for p in model.parameters())
    hidden = np.maximum(x.reshape(4, 12) @ w1.T + b1, 0)
    hidden = np.maximum(hidden @ w2.T + b2, 0)
    np.testing.assert_allclose(
        model(torch.from_numpy(x)).detach().numpy(), hidden @ w3.T + b3, rtol=0, atol=1e-12
    )


def test_memory_format_of_the_images_does_not_matter():
    model, x = mlp(48, (8,), 3, seed=0), torch.linspace(-1, 1, 96).reshape(2, 3, 4, 4)
    torch.testing.assert_close(
        model(x.contiguous(memory_format=torch.channels_last)), model(x), rtol=0, atol=1e-6
    )


def test_parameter_count():
    # 64 x 32 + 32, 32 x 16 + 16, 16 x 10 + 10
    assert sum(p.numel() for p in mlp(64, (32, 16), 10, seed=0).parameters()) == 2080 + 528 + 170


def test_the_seed_decides_every_weight():
    one, same, other = (list(mlp(6, (5, 5), 2, seed).parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[1], one[3])  # two biases of one shape have streams of their own


def test_copies_and_saved_states_compute_the_same():
    model, x = mlp(6, (5,), 2, seed=1), torch.linspace(-1, 1, 12).reshape(2, 6)
    loaded = mlp(6, (5,), 2, seed=2)
    assert not torch.equal(loaded(x), model(x))
    loaded.load_state_dict(model.state_dict())
    copy, expected = deepcopy(model), model(x).detach()
    torch.nn.init.zeros_(model[1].weight)
    assert torch.equal(copy(x), expected) and torch.equal(loaded(x), expected)


def test_torchs_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    mlp(6, (5,), 2, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("inputs", "widths", "classes", "seed", "line"),
    [
        (6, (), 2, 0, r"widths must name at least 1 hidden layer, got \(\)"),
        (6, (4, 0), 2, 0, r"widths must each be at least 1, got \(4, 0\)"),
        (0, (4,), 2, 0, "inputs must be at least 1, got 0"),
        (6, (4,), 1, 0, "classes must be at least 2, got 1"),
        (6, (4,), 2, -1, r"seed must be in \[0, 2\^32\), got -1"),
    ],
)
def test_wrong_arguments_are_refused(inputs, widths, classes, seed, line):
    with pytest.raises(ValueError, match=line):
        mlp(inputs, widths, classes, seed)
