"""A compiled run is the torch optimizer's own, step by step; many at once are the one by one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from replicate import descent, optim
from replicate.descent import Stepping, Vaulting

START = np.array([1.0, -2.0, 3.0, 0.5])
STEPS = 25


class Steep(NamedTuple):
    steepness: np.ndarray


DATA = Steep(np.array(10.0))


def valley(theta, data):
    """Rosenbrock's, in two pairs, for torch and jax alike: no two walks along it are of one length."""
    a, b = theta[:2], theta[2:]
    return ((1 - a) ** 2 + data.steepness * (b - a**2) ** 2).sum()


def run(method, start=START, lr=1e-3, dtype="float64"):
    """One length and always with a path, so that a method is compiled once for all the tests."""
    return descent.train(method, valley, DATA, start, lr, STEPS, dtype, path=True)


def by_torch(make, steps=STEPS):
    """Weights before every step, (steps + 1, 4), and the total forward passes and the mini-steps of
    each.
    """
    theta = nn.Parameter(torch.tensor(START))
    optimizer = make([theta])
    path, forwards, mini_steps = [START], [0], []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = valley(theta, Steep(10.0))
        loss.backward()
        if isinstance(optimizer, optim.KeepStepping | optim.KeepVaulting):
            optimizer.step(lambda: valley(theta, Steep(10.0)), loss)
        else:
            optimizer.step()
        path.append(theta.detach().numpy().copy())
        forwards.append(getattr(optimizer, "total_forwards", 0))
        mini_steps.append(getattr(optimizer, "mini_steps", 1))
    return np.array(path), forwards, mini_steps


METHODS = {
    "sgd": (descent.Sgd(), lambda p, lr: optim.SGD(p, lr=lr)),
    "adam": (descent.Adam(), lambda p, lr: optim.Adam(p, lr=lr)),
    "corrected": (Stepping(20, 0.5), lambda p, lr: optim.KeepStepping(p, lr, 20, 0.5)),
    "rollback": (
        Stepping(20, 2.0, rollback=True),
        lambda p, lr: optim.KeepStepping(p, lr, 20, 2.0, rollback=True),
    ),
    "published": (
        Stepping(5, 0.5, "published"),
        lambda p, lr: optim.KeepStepping(p, lr, 5, 0.5, "published"),
    ),
    "secant": (Vaulting(10), lambda p, lr: optim.KeepVaulting(p, lr, 10)),
    "polyak": (
        Vaulting(4, rule="polyak"),
        lambda p, lr: optim.KeepVaulting(p, lr, 4, rule="polyak"),
    ),
    "published vault": (
        Vaulting(3, "published"),
        lambda p, lr: optim.KeepVaulting(p, lr, 3, "published"),
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_equals_the_torch_optimizer_in_float64_cost_and_all(name):
    method, make = METHODS[name]
    for lr in (
        1e-3,
        0.1 if name in ("secant", "polyak") else 3e-4,
    ):  # the larger one is too long for a first try
        path, forwards, mini_steps = by_torch(lambda p, lr=lr: make(p, lr))
        found = run(method, lr=lr)
        np.testing.assert_allclose(found.path, path, rtol=1e-9)
        np.testing.assert_array_equal(found.forwards, forwards)
        np.testing.assert_array_equal(found.mini_steps, mini_steps)
        np.testing.assert_array_equal(found.gradients, np.arange(STEPS + 1))
        np.testing.assert_allclose(found.losses, [valley(w, DATA) for w in path], rtol=1e-9)
        np.testing.assert_array_equal(found.weights, found.path[-1])


def test_a_net_walks_as_its_torch_twin_does():
    net = descent.Net((3, 4, 1), "relu")
    data, start = descent.rows(40, 3, 0), descent.initial_weights(net, 1)
    walk = descent.train(
        Stepping(10, 0.5), descent.rows_loss(net), data, start, 0.02, STEPS, path=True
    )
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    nn.utils.vector_to_parameters(torch.from_numpy(start), model.parameters())
    x, y = torch.from_numpy(data.x.T), torch.from_numpy(data.y)[:, None]
    optimizer = optim.KeepStepping(model.parameters(), 0.02, 10, 0.5)
    for weights in walk.path:
        np.testing.assert_allclose(
            nn.utils.parameters_to_vector(model.parameters()).detach(),
            weights,
            rtol=1e-9,
            atol=1e-12,
        )
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step(lambda: nn.functional.mse_loss(model(x), y))
    assert optimizer.total_mini_steps > 2 * STEPS


@pytest.mark.parametrize(
    "variant, rollback, max_steps, at_once",
    [("corrected", True, 7, 4), ("corrected", False, 20, 16), ("published", False, 7, 8)],
)
def test_many_lengths_at_once_stop_where_one_by_one_does(variant, rollback, max_steps, at_once):
    about = {"max_steps": max_steps, "scale_i": 0.5, "variant": variant, "rollback": rollback}
    one, many = Stepping(**about), Stepping(**about, at_once=at_once)
    for lr in (1e-4, 1e-3):  # at the smaller one walks run out of lengths
        first, second = run(one, lr=lr), run(many, lr=lr)
        np.testing.assert_allclose(second.path, first.path, rtol=1e-9)
        np.testing.assert_array_equal(second.forwards, first.forwards)
        assert descent.ties(many, valley, DATA, first.path, lr) == (STEPS + 1, 0, 0)


def test_ties_are_told_from_mistakes():
    """Where the loss is flat up to rounding the forms may stop apart, in the last digit; nowhere
    else.
    """
    flat = np.ones((30, 4)) + 1e-9 * np.arange(120).reshape(30, 4)
    found = descent.ties(Stepping(20, at_once=4), valley, DATA, flat, 1e-4)
    assert found.steps == 30 and found.differing == found.last_digit

    class Broken(Stepping):
        def _many_at_once(self, loss_at, point, go):
            return point.at(1.0), 1

    found = descent.ties(Broken(20, at_once=4), valley, DATA, np.array([START]), 1e-4)
    assert found == (1, 1, 0)

    class Late(Stepping):
        def _many_at_once(self, loss_at, point, go):
            return point.at(5.0), 5

    def level(
        w, data
    ):  # 4, 3, 3: a walk at rate 1 stops after two, at a tie, and a late one after it
        return jnp.maximum(3, 4 - w[0]) + jnp.maximum(w[0] - 4, 0)

    assert descent.ties(Late(at_once=4), level, DATA, np.zeros((1, 1)), 1.0) == (1, 1, 1)
    with pytest.raises(ValueError, match="at_once must be above 1"):
        descent.ties(Stepping(), valley, DATA, flat, 1e-4)


@pytest.mark.parametrize("shared, steepness", [(True, 10.0), (False, np.array([10.0, 5.0, 10.0]))])
def test_lanes_are_the_runs_alone(shared, steepness):
    starts, lrs = START + 0.1 * np.arange(3)[:, None], np.array([1e-3, 1e-4, 5e-4])
    method, data = METHODS["rollback"][0], Steep(np.asarray(steepness))
    together = descent.train_many(method, valley, data, starts, lrs, STEPS, shared=shared)
    for lane in range(3):
        alone = run(method, starts[lane], lrs[lane])
        if shared or lane != 1:
            np.testing.assert_allclose(together.losses[lane], alone.losses, rtol=1e-9)
            np.testing.assert_allclose(together.weights[lane], alone.weights, rtol=1e-9)
            np.testing.assert_array_equal(together.forwards[lane], alone.forwards)
            np.testing.assert_array_equal(together.mini_steps[lane], alone.mini_steps)
        else:  # on data of its own
            assert not np.allclose(together.losses[lane], alone.losses)


def test_float32_is_float32_and_the_flag_of_the_process_stays():
    before = jax.config.jax_enable_x64
    method = METHODS["corrected"][0]
    single, double = run(method, dtype="float32"), run(method)
    assert (single.losses.dtype, single.weights.dtype) == (
        np.float32,
        np.float32,
    ) and double.losses.dtype == np.float64
    assert 0 < np.abs(single.losses / double.losses - 1).max() < 1e-2
    assert jax.config.jax_enable_x64 == before and jnp.ones(1).dtype == np.float32


@pytest.mark.parametrize(
    "name, stays", [("sgd", False), ("corrected", False), ("rollback", True), ("secant", True)]
)
def test_a_run_that_diverges_is_rows_and_one_that_may_not_climb_stays_finite(name, stays):
    found = run(METHODS[name][0], lr=1.0)
    assert np.isfinite(found.losses[-1]) == stays and len(found.losses) == STEPS + 1
    assert not stays or np.all(np.diff(found.losses) <= 0)


def test_at_the_minimum_nothing_is_spent_but_by_the_published_classes():
    cases = [(METHODS[name][0], 0) for name in ("corrected", "rollback", "secant")]
    cases += [(METHODS[name][0], 2) for name in ("published", "published vault")]
    for method, spent in [*cases, (Stepping(7, 0.5, rollback=True, at_once=4), 0)]:
        found = run(method, np.ones(4))
        assert (found.losses[-1], found.forwards[1]) == (0, spent) and np.all(found.weights == 1), (
            method
        )


@pytest.mark.parametrize("change, said", [({"steps": 0}, "steps must be at least 1, got 0"),
                                          ({"lr": 0.0}, "lr must be finite and above 0, got 0.0"),
                                          ({"lr": np.nan}, "lr must be finite and above 0, got nan"),
                                          ({"dtype": "float16"}, "unknown dtype 'float16'")])  # fmt: skip
def test_bad_arguments_are_named_with_bound_and_value(change, said):
    about = {
        "method": descent.Sgd(),
        "loss": valley,
        "data": DATA,
        "start": START,
        "lr": 0.1,
        "steps": 2,
    } | change
    with pytest.raises(ValueError, match=said):
        descent.train(**about)


def test_lanes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"as many lanes, got shapes \(4,\) and \(2,\)"):
        descent.train_many(descent.Sgd(), valley, DATA, START, np.ones(2), 1)


REFUSED = [
    (lambda: Stepping(0), "max_steps and at_once must be at least 1, got 0 and 1"),
    (lambda: Stepping(at_once=0), "max_steps and at_once must be at least 1, got 20 and 0"),
    (lambda: Stepping(scale_i=-1.0), "scale_i must be finite and at least 0, got -1.0"),
    (lambda: Stepping(variant="text"), "unknown variant 'text'"),
    (lambda: Stepping(variant="published", rollback=True), "rollback must be False"),
    (lambda: Vaulting(0), "max_steps must be at least 1, got 0"),
    (lambda: Vaulting(cap=1.0), "cap must be finite and above 1, got 1.0"),
    (lambda: Vaulting(rule="newton"), "unknown rule 'newton'"),
]


@pytest.mark.parametrize("make, said", REFUSED)
def test_methods_refuse_what_the_optimizers_refuse(make, said):
    with pytest.raises(ValueError, match=said):
        make()
