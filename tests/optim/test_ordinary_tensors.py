"""Every optimizer on every kind of parameter and gradient that torch has, and on a compiled model.

Where a method does not take a kind, it says so in one line, and is the same bits as before.
"""

import copy

import pytest
import torch
from rows import LR, ROWS, WALKERS, WRAPPERS, Problem, is_same, snapshot, step
from torch import nn

SPARSE = ("Lookahead of SGD", "Lookahead of momentum", "OuterNesterov of SGD")  # can be sparse
every_row = pytest.mark.parametrize("name", ROWS)
every_wrapper = pytest.mark.parametrize("name", WRAPPERS)
every_walker = pytest.mark.parametrize("name", WALKERS)


def ends(name, parameter: nn.Parameter, loss, steps: int = 13) -> torch.Tensor:
    optimizer = ROWS[name].made([parameter])
    for _ in range(steps):
        step(optimizer, loss)
    return parameter.detach()


@every_row
def test_a_number_walks_as_a_vector_of_length_one(name):
    number = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    vector = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    end = ends(name, number, lambda: (number**2).sum())
    torch.testing.assert_close(
        end.reshape(1), ends(name, vector, lambda: (vector**2).sum()), rtol=1e-14, atol=0
    )
    assert abs(end) < 3


@every_row
def test_a_complex_number_walks_as_its_two_parts_or_is_refused(name):
    curvature = torch.tensor([1.0, 0.3], dtype=torch.float64)
    start = torch.tensor([1 - 2j, 3 + 0.5j], dtype=torch.complex128)
    z = nn.Parameter(start.clone())
    parts = nn.Parameter(torch.view_as_real(start).clone())

    def of_z():
        return (curvature * (z.abs() ** 2)).sum()

    def of_parts():
        return (curvature[:, None] * parts**2).sum()

    if name.startswith("Taylor"):
        optimizer = ROWS[name].made([z])
        before = snapshot(optimizer, z)
        with pytest.raises(ValueError, match="gradients must be dense and real, got complex"):
            step(optimizer, of_z)
        assert is_same(before, snapshot(optimizer, z))
        return
    ends(name, z, of_z)
    ends(name, parts, of_parts)
    torch.testing.assert_close(torch.view_as_real(z.detach()), parts.detach(), rtol=1e-12, atol=0)


@every_row
def test_a_tied_weight_is_one_parameter(name):
    """Its two uses add up in one gradient, as in a net that has the matrix once."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Linear(3, 3, bias=False)
            self.decode = nn.Linear(3, 3, bias=False)
            self.decode.weight = self.encode.weight
            self.out = nn.Linear(3, 1)

        def forward(self, x):
            return self.out(self.decode(torch.tanh(self.encode(x))))

    class Once(Tied):
        def __init__(self):
            super().__init__()
            self.decode = None

        def forward(self, x):
            hidden = torch.tanh(self.encode(x))
            return self.out(nn.functional.linear(hidden, self.encode.weight))

    found = []
    for kind in (Tied, Once):
        problem = Problem(kind())
        optimizer = ROWS[name].made(problem.net.parameters())
        for _ in range(13):
            step(optimizer, problem.loss)
        found.append(problem.weights())
    assert torch.equal(*found)


@every_row
def test_sparse_gradients_are_as_dense_ones_or_refused(name):
    rows = torch.tensor([0, 2, 2])
    found = []
    for sparse in (False, True):
        table = nn.Embedding(4, 2, sparse=sparse).double()
        table.weight.data.copy_(torch.arange(8.0).view(4, 2))
        optimizer = ROWS[name].made(table.parameters())
        before = snapshot(optimizer, table.weight)
        if sparse and name not in SPARSE:
            with pytest.raises((ValueError, RuntimeError), match="sparse|dense") as error:
                step(optimizer, lambda table=table: (table(rows) ** 2).mean())
            assert "\n" not in str(error.value)
            assert is_same(before, snapshot(optimizer, table.weight))
            return
        for _ in range(13):
            step(optimizer, lambda table=table: (table(rows) ** 2).mean())
        found.append(table.weight.detach())
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)


@every_row
def test_in_bfloat16_it_ends_near_the_plain_optimizer(name):
    found = []
    for make in (ROWS[name].made, ROWS[name].plain):
        problem = Problem(dtype=torch.bfloat16)
        optimizer = make(problem.net.parameters())
        for _ in range(60):
            step(optimizer, problem.loss)
        found.append(problem.loss().item())
    assert found[0] <= 1.3 * found[1]


def scaled(name, factors: list[float]) -> torch.Tensor:
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in factors:
        optimizer.zero_grad()
        scaler.scale(factor * problem.loss()).backward()
        scaler.step(optimizer)
        scaler.update()
    return problem.weights()


@every_wrapper
def test_a_step_that_the_scaler_leaves_out_does_not_count(name):
    inf = float("inf")
    whole = scaled(name, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    torch.testing.assert_close(scaled(name, [1.0, inf, 1.0, 1.0, inf, 1.0, 1.0, 1.0]), whole)


@every_walker
def test_a_scaler_gives_a_walker_no_closure_and_it_says_so(name):
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.parameters())
    before = snapshot(optimizer, problem.weights())
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(problem.loss()).backward()
    with pytest.raises(ValueError, match="step needs a closure that computes the loss"):
        scaler.step(optimizer)
    assert is_same(before, snapshot(optimizer, problem.weights()))


@every_row
def test_a_compiled_model_ends_where_the_model_ends(name):
    def net():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    found = []
    for compiled in (False, True):
        problem = Problem(net())
        model = problem.net
        if compiled:
            problem.net = torch.compile(model, backend="eager")
        optimizer = ROWS[name].made(model.parameters())
        for _ in range(7):
            step(optimizer, problem.loss)
        problem.net = model
        found.append((problem.weights(), model[1].running_mean, model[1].num_batches_tracked))
    assert is_same(list(found[0]), list(found[1])) and found[0][2] == 7


@every_wrapper
def test_a_compiled_step_is_the_step(name):
    found = []
    for compiled in (False, True):
        problem = Problem()
        optimizer = ROWS[name].made(problem.net.parameters())
        step_of = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(7):
            optimizer.zero_grad()
            problem.loss().backward()
            step_of()
        found.append(problem.weights())
    # As the plain one: compiled Adam rounds otherwise, by 4e-6 after seven steps.
    torch.testing.assert_close(*found, rtol=0, atol=1e-5 if "Adam" in name else 0)


HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", HALF)
def test_slow_weights_of_half_precision_do_not_lose_small_pulls(dtype):
    """A thousand pulls of 1e-4 from 1: in half precision each of them would be rounded away."""
    from replicate.optim import SGD, Lookahead

    theta = nn.Parameter(torch.ones(1, dtype=dtype))
    optimizer = Lookahead(SGD([theta], lr=LR), k=1, alpha=1e-4 / 0.5)
    for _ in range(1000):
        theta.grad = torch.full_like(theta, 5.0)
        optimizer.step()
    assert optimizer.state[theta]["slow"].dtype == torch.float32
    assert optimizer.state[theta]["slow"].item() == pytest.approx(0.9, abs=2e-3)
    other = nn.Parameter(theta.detach().clone())
    again = Lookahead(SGD([other], lr=LR))
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(again.state[other]["slow"], optimizer.state[theta]["slow"])
