"""KeepStepping is the published class where that is asked for, sign and all, and otherwise what the
source means.
"""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from replicate.errors import Diverged
from replicate.optim import SGD, KeepStepping

CURVATURE = torch.tensor([1.0, 0.3, 0.05, 2.0], dtype=torch.float64)
START = (1.0, -2.0, 3.0, 0.5)


def bowl(theta):
    return 0.5 * (CURVATURE * theta**2).sum()


def valley(theta):
    """Rosenbrock's, in two pairs: walks end at many different lengths, and none comes near the
    minimum.
    """
    a, b = theta[:2], theta[2:]
    return ((1 - a) ** 2 + 10 * (b - a**2) ** 2).sum()


def made(**about) -> tuple[KeepStepping, nn.Parameter]:
    theta = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    return KeepStepping([theta], **{"lr": 2e-3} | about), theta


def walk(optimizer, theta, steps: int, f=valley) -> np.ndarray:
    path = [theta.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        f(theta).backward()
        optimizer.step(lambda: f(theta))
        path.append(theta.detach().numpy().copy())
    return np.array(path)


def lengths(optimizer, f=lambda theta: -theta.sum()) -> list[float]:
    """The mini-steps of one step in units of lr, on a loss that falls forever along -g."""
    theta, seen = optimizer.param_groups[0]["params"][0], []
    theta.grad = -torch.ones_like(theta)

    def closure():
        seen.append(theta[0].item())
        return f(theta) if len(seen) < 200 else torch.tensor(math.inf)

    optimizer.step(closure)
    return list(np.diff(seen) / optimizer.param_groups[0]["lr"])


def published(theta, lr, max_steps, scale_i, f=valley) -> np.ndarray:
    """A step of the published class in NumPy's words, line by line, on one parameter."""
    at = torch.tensor(theta, requires_grad=True)
    f(at).backward()
    d_p = at.grad.numpy()

    def mini_step(i):
        nonlocal theta
        scale = -lr * scale_i * np.sqrt(i)
        theta = theta + (-lr - scale) * d_p

    def closure():
        return f(torch.tensor(theta)).item()

    old_loss = closure()
    i = 0
    mini_step(i)
    new_loss = closure()
    while (new_loss < old_loss) & (i < max_steps):
        mini_step(i)
        old_loss = new_loss
        new_loss = closure()
        i += 1
    return theta


def repeated(step, *about) -> np.ndarray:
    path = [np.array(START)]
    for _ in range(25):
        path.append(step(path[-1], *about))
    return np.array(path)


# The published class.


@pytest.mark.parametrize("scale_i", [0, 0.5, 2])
@pytest.mark.parametrize("lr, max_steps", [(2e-3, 10), (5e-4, 50), (1e-3, 3)])
def test_published_equals_the_published_loop(lr, max_steps, scale_i):
    optimizer, theta = made(lr=lr, max_steps=max_steps, scale_i=scale_i, variant="published")
    expected = repeated(published, lr, max_steps, scale_i)
    np.testing.assert_allclose(walk(optimizer, theta, 25), expected, rtol=1e-12, atol=1e-14)


def test_published_walks_backwards_when_impatient():
    optimizer, _ = made(scale_i=2, variant="published")
    # On a loss that falls only forwards the walk ends at the first step back, its third.
    np.testing.assert_allclose(lengths(optimizer), [1, 1, -1], rtol=1e-12)
    falling = iter(range(0, -100, -1))
    optimizer, _ = made(scale_i=2, max_steps=5, variant="published")
    found = lengths(optimizer, lambda theta: torch.tensor(float(next(falling))))
    np.testing.assert_allclose(
        found, [1, 1] + [1 - 2 * math.sqrt(i) for i in range(1, 5)], rtol=1e-12
    )


def test_published_takes_a_mini_step_more_than_max_steps():
    optimizer, _ = made(max_steps=50, variant="published")
    assert len(lengths(optimizer)) == optimizer.mini_steps == 51 and optimizer.forwards == 52


def test_published_computes_with_a_graph_corrected_without():
    for variant in ("published", "corrected"):
        optimizer, theta = made(variant=variant)
        seen = []
        theta.grad = torch.zeros_like(theta)
        optimizer.step(lambda theta=theta, seen=seen: seen.append(bowl(theta)) or seen[-1])
        assert all(loss.requires_grad == (variant == "published") for loss in seen) and seen


# What the source means.


def corrected(theta, lr, max_steps, scale_i, rollback, f=valley) -> np.ndarray:
    """From the text: keep stepping, longer and longer, until the loss gets worse."""
    at = torch.tensor(theta, requires_grad=True)
    f(at).backward()
    lengths = lr * np.cumsum([0.0] + [1 + scale_i * i**0.5 for i in range(max_steps)])
    points = [theta - length * at.grad.numpy() for length in lengths]
    losses = [f(torch.tensor(point)).item() for point in points]
    worse = next((i for i in range(1, max_steps + 1) if not losses[i] < losses[i - 1]), None)
    return points[max_steps if worse is None else worse - 1 if rollback else worse]


@pytest.mark.parametrize("rollback", [False, True])
@pytest.mark.parametrize("scale_i", [0, 0.5, 2])
@pytest.mark.parametrize("lr, max_steps", [(2e-3, 10), (5e-4, 50), (1e-3, 3), (2e-3, 1)])
def test_corrected_equals_the_text(lr, max_steps, scale_i, rollback):
    optimizer, theta = made(lr=lr, max_steps=max_steps, scale_i=scale_i, rollback=rollback)
    expected = repeated(corrected, lr, max_steps, scale_i, rollback)
    np.testing.assert_allclose(walk(optimizer, theta, 25), expected, rtol=1e-10, atol=1e-12)


def test_corrected_lengths_grow_and_there_are_max_steps_of_them():
    optimizer, _ = made(scale_i=2, max_steps=6)
    np.testing.assert_allclose(
        lengths(optimizer), [1 + 2 * math.sqrt(i) for i in range(6)], rtol=1e-12
    )


def test_one_mini_step_is_sgd_bit_by_bit():
    optimizer, theta = made(max_steps=1)
    plain = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    sgd = SGD([plain], lr=2e-3)
    assert np.array_equal(walk(optimizer, theta, 30), walk(sgd, plain, 30))


def test_rollback_ends_at_the_last_better_point_bit_by_bit():
    (keeping, a), (undoing, b) = made(), made(rollback=True)
    walk(keeping, a, 1), walk(undoing, b, 1)
    shorter, c = made(max_steps=undoing.mini_steps - 1)
    walk(shorter, c, 1)
    assert keeping.mini_steps == undoing.mini_steps and torch.equal(b, c) and not torch.equal(a, b)
    losses = [valley(torch.tensor(theta)).item() for theta in walk(undoing, b, 40)]
    assert np.all(np.diff(losses) <= 0)


@pytest.mark.parametrize("rollback, taken", [(False, 2), (True, 1)])
def test_a_loss_that_stays_the_same_ends_the_walk(rollback, taken):
    optimizer, theta = made(rollback=rollback)
    theta.grad = torch.ones_like(theta)
    left = iter([3.0, 2.0, 2.0])
    assert optimizer.step(lambda: torch.tensor(next(left))) == 2.0 and optimizer.mini_steps == 2
    np.testing.assert_allclose(theta.detach(), np.array(START) - 2e-3 * taken)


def test_rollback_of_the_very_first_mini_step_stands_still():
    optimizer, theta = made(lr=1.0, rollback=True)
    path = walk(optimizer, theta, 3)
    assert np.array_equal(path[0], path[-1]) and optimizer.mini_steps == 1


@pytest.mark.parametrize("variant", ["corrected", "published"])
def test_at_the_minimum_it_stays(variant):
    optimizer, theta = made(variant=variant)
    theta.data.zero_()
    assert not walk(optimizer, theta, 2, bowl).any()
    assert (optimizer.mini_steps, optimizer.forwards) == {"corrected": (0, 1), "published": (1, 2)}[
        variant
    ]


# Counts and state.


def test_every_forward_pass_and_mini_step_is_counted():
    optimizer, theta = made()
    calls = []
    for _ in range(7):
        optimizer.zero_grad()
        valley(theta).backward()
        before = len(calls)
        optimizer.step(lambda: calls.append(1) or valley(theta))
        assert optimizer.forwards == len(calls) - before == optimizer.mini_steps + 1
    assert optimizer.total_forwards == len(calls) == optimizer.total_mini_steps + optimizer.steps
    assert optimizer.steps == 7


@pytest.mark.parametrize("variant, spared", [("corrected", 1), ("published", 0)])
def test_a_given_loss_spares_the_corrected_walk_a_forward(variant, spared):
    ends = []
    for known in (False, True):
        optimizer, theta = made(variant=variant)
        loss = valley(theta)
        loss.backward()
        final = optimizer.step(lambda theta=theta: valley(theta), loss if known else None)
        assert final.item() == valley(theta).item() and not final.requires_grad
        ends.append((optimizer.forwards, theta.tolist()))
    assert ends[0][0] - ends[1][0] == spared and ends[0][1] == ends[1][1]


@pytest.mark.parametrize(
    "about", [{"scale_i": 0.3, "rollback": True}, {"variant": "published", "max_steps": 7}]
)
def test_a_state_that_was_saved_goes_on_at_the_same_bits(tmp_path, about):
    optimizer, theta = made(**about)
    whole = walk(optimizer, theta, 12)
    first, at = made(**about)
    walk(first, at, 5)
    torch.save(first.state_dict(), tmp_path / "state")
    second, at_too = made(lr=1.0)
    with torch.no_grad():
        at_too.copy_(at)
    second.load_state_dict(torch.load(tmp_path / "state"))
    assert np.array_equal(walk(second, at_too, 7), whole[5:])
    assert second.state_dict() == optimizer.state_dict()


def test_a_deep_copy_goes_on_by_itself():
    optimizer, theta = made(scale_i=1.0)
    walk(optimizer, theta, 3)
    at, copied = copy.deepcopy((theta, optimizer))
    before = theta.detach().clone()
    there = walk(copied, at, 4)
    assert torch.equal(before, theta) and np.array_equal(there, walk(optimizer, theta, 4))
    assert copied.total_forwards == optimizer.total_forwards


def test_groups_walk_together_each_at_its_own_rate():
    whole, theta = made(rollback=True)
    a, b = (nn.Parameter(part) for part in torch.tensor(START, dtype=torch.float64).split(2))
    parts = KeepStepping([{"params": [a]}, {"params": [b], "lr": 2e-3}], lr=2e-3, rollback=True)
    for _ in range(5):
        parts.zero_grad()
        valley(torch.cat([a, b])).backward()
        parts.step(lambda: valley(torch.cat([a, b])))
    assert np.array_equal(walk(whole, theta, 5)[-1], torch.cat([a, b]).detach().numpy())
    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
    before = torch.cat([a, b]).detach()
    parts.param_groups[1]["lr"] = 0.5
    falling = iter([3.0, 2.0, 2.5])
    parts.step(lambda: torch.tensor(next(falling)))
    torch.testing.assert_close(
        before - torch.cat([a, b]).detach(), torch.tensor([0.002, 0.002, 0.5, 0.5]).double()
    )


def test_a_parameter_without_gradient_stays_where_it_is():
    theta, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = KeepStepping([theta, frozen], lr=0.1)
    (theta**2).sum().backward()
    optimizer.step(lambda: (theta**2).sum() + (frozen**2).sum())
    assert torch.equal(frozen, torch.ones(2)) and not torch.equal(theta, torch.ones(2))


# What is refused.


@pytest.mark.parametrize("change", [{"lr": 0.0}, {"lr": -0.1}, {"lr": math.inf}, {"max_steps": 0}, {"max_steps": 2.5},
                                    {"max_steps": True}, {"scale_i": -1.0}, {"scale_i": math.nan},
                                    {"variant": "publish"}])  # fmt: skip
def test_bad_arguments_are_named_with_bound_and_value(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=name) as error:
        made(**change)
    assert str(value) in str(error.value) and "\n" not in str(error.value)


def test_a_bad_rate_and_a_published_rollback_are_refused():
    with pytest.raises(ValueError, match="lr must be finite"):
        made()[0].add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": -1.0})
    with pytest.raises(ValueError, match="rollback must be False"):
        made(variant="published", rollback=True)


@pytest.mark.parametrize("closure, said", [(None, "needs a closure"), (lambda: 1.0, "got float"),
                                           (lambda: torch.ones(3), r"shape \(3,\)")])  # fmt: skip
def test_no_closure_of_a_loss_is_refused_and_nothing_moves(closure, said):
    optimizer, theta = made()
    theta.grad = torch.ones_like(theta)
    with pytest.raises(ValueError, match=said):
        optimizer.step(closure)
    assert theta.tolist() == list(START)


@pytest.mark.parametrize(
    "losses, after", [([math.nan], 0), ([1.0, math.inf], 1), ([3.0, 2.0, math.nan], 2)]
)
def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(losses, after):
    optimizer, theta = made()
    theta.grad = torch.ones_like(theta)
    left = iter(losses)
    with pytest.raises(Diverged, match=f"after mini-step {after} of step 0") as error:
        optimizer.step(lambda: torch.tensor(next(left)))
    assert error.value.step == 0 and optimizer.total_forwards == len(losses)


def test_rollback_takes_back_a_mini_step_to_infinity():
    optimizer, theta = made(rollback=True)
    theta.grad = torch.ones_like(theta)
    left = iter([3.0, 2.0, math.inf])
    assert optimizer.step(lambda: torch.tensor(next(left))) == 2.0
    np.testing.assert_allclose(theta.detach(), np.array(START) - 2e-3)


def test_sparse_gradients_and_a_foreign_state_are_refused():
    optimizer, theta = made()
    with pytest.raises(ValueError, match="must be a KeepStepping's"):
        optimizer.load_state_dict(SGD([theta], lr=0.1).state_dict())
    theta.grad = torch.ones(4, dtype=torch.float64).to_sparse()
    with pytest.raises(ValueError, match="dense gradients"):
        optimizer.step(lambda: bowl(theta))
