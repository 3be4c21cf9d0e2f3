"""KeepVaulting is the published class where that is asked for, and otherwise Newton's or Polyak's
step along -g.
"""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from replicate.errors import Diverged
from replicate.optim import KeepVaulting

CURVATURE = torch.tensor([1.0, 0.3, 0.05, 2.0], dtype=torch.float64)
START = (1.0, -2.0, 3.0, 0.5)
RULES = ("secant", "polyak")


def bowl(theta):
    return 0.5 * (CURVATURE * theta**2).sum()


def valley(theta):
    """Rosenbrock's, in two pairs: no two walks are alike, and none comes near the minimum."""
    a, b = theta[:2], theta[2:]
    return ((1 - a) ** 2 + 10 * (b - a**2) ** 2).sum()


def made(**about) -> tuple[KeepVaulting, nn.Parameter]:
    theta = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    return KeepVaulting([theta], **{"lr": 2e-3} | about), theta


def walk(optimizer, theta, steps: int, f=valley) -> np.ndarray:
    path = [theta.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        loss = f(theta)
        loss.backward()
        optimizer.step(lambda: f(theta), loss)
        path.append(theta.detach().numpy().copy())
    return np.array(path)


def tried(optimizer, f, gradient: float = 1.0) -> list[float]:
    """The lengths t of one step along -g from 0 in one dimension, where the loss is f(t)."""
    theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer.param_groups[0]["params"] = [theta]
    theta.grad = torch.full_like(theta, gradient)
    seen = []
    optimizer.step(
        lambda: (
            seen.append(-theta.item() / gradient)
            or torch.tensor(float(f(seen[-1])), dtype=torch.float64)
        )
    )
    return [*seen, -theta.item() / gradient]


# The published class.


def published(theta, lr, max_steps, f=valley) -> np.ndarray:
    """A step of the published class in NumPy's words, line by line, on one parameter."""
    at = torch.tensor(theta, requires_grad=True)
    f(at).backward()
    d_p = at.grad.numpy()

    def mini_step(jumpsize=1):
        nonlocal theta
        theta = theta - (lr * jumpsize) * d_p

    def closure():
        return f(torch.tensor(theta)).item()

    old_loss = closure()
    i = 0
    mini_step()
    new_loss = closure()
    losses = [old_loss, new_loss]
    while (new_loss < old_loss) & (i < max_steps):
        f1 = (losses[-1] - losses[-2]) / lr
        f2 = (losses[-1] - f1) / lr
        stepsize = -f2 / f1 * lr
        mini_step(stepsize)
        old_loss = new_loss
        new_loss = closure()
        losses.append(new_loss)
        i += 1
    return theta


@pytest.mark.parametrize("lr, max_steps", [(2e-3, 10), (5e-4, 50), (3e-3, 2)])
def test_published_equals_the_published_loop(lr, max_steps):
    optimizer, theta = made(lr=lr, max_steps=max_steps, variant="published")
    expected = [np.array(START)]
    for _ in range(15):  # a difference of two losses makes rounding grow from jump to jump
        expected.append(published(expected[-1], lr, max_steps))
    np.testing.assert_allclose(walk(optimizer, theta, 15), expected, rtol=1e-7)


def test_a_published_jump_is_polyaks_step_by_the_secant():
    losses = [5.0, 4.0, 3.7, 3.6, 3.8]
    optimizer, _ = made(lr=0.1, variant="published")
    left = iter(losses)
    jumps = np.diff(tried(optimizer, lambda t: next(left))[:-1]) / 0.1
    expected = [1.0] + [
        1 + 0.1 * one / (before - one)
        for before, one in zip(losses[:-2], losses[1:-1], strict=True)
    ]
    np.testing.assert_allclose(jumps, expected, rtol=1e-12)


def test_published_goes_by_its_first_rate_steps_by_the_groups():
    optimizer, _ = made(lr=0.1, variant="published")
    optimizer.param_groups[0]["lr"] = 0.2
    left = iter([5.0, 4.0, 4.5])
    np.testing.assert_allclose(
        tried(optimizer, lambda t: next(left))[:3], [0, 0.2, 0.2 + 0.2 * (1 + 0.1 * 4 / 1)]
    )


def test_published_takes_one_more_step_and_keeps_a_graph():
    optimizer, _ = made(max_steps=5, variant="published")
    left = iter(range(100, 0, -1))
    tried(optimizer, lambda t: next(left))
    assert (optimizer.mini_steps, optimizer.forwards) == (6, 7)
    for variant in ("published", "corrected"):
        optimizer, theta = made(variant=variant)
        valley(theta).backward()
        seen = []
        optimizer.step(lambda theta=theta, seen=seen: seen.append(valley(theta)) or seen[-1])
        assert all(loss.requires_grad == (variant == "published") for loss in seen) and seen


# What the source means.


@pytest.mark.parametrize("lr", [1e-3, 0.1, 1.0])
def test_on_a_parabola_the_secant_rule_finds_the_lowest_point(lr):
    """f(t) = 3 - t + 2 t^2 with |g|^2 = 1 has it at 1/4, from a rate far below it and far above."""
    optimizer, _ = made(lr=lr, cap=1e4)
    found = tried(optimizer, lambda t: 3 - t + 2 * t * t)
    assert found[-1] == pytest.approx(0.25, rel=1e-9) and optimizer.mini_steps == 2


def test_the_secant_rule_is_the_exact_line_search_on_a_quadratic():
    optimizer, theta = made(cap=1e4)
    expected = [np.array(START)]
    a = CURVATURE.numpy()
    for _ in range(20):
        g = a * expected[-1]
        expected.append(expected[-1] - (g @ g) / (g @ (a * g)) * g)
    np.testing.assert_allclose(walk(optimizer, theta, 20, bowl), expected, rtol=1e-6)
    assert optimizer.total_forwards == 40  # two a gradient: the rate itself, and the lowest point


def test_a_jump_is_between_a_cap_th_and_cap_times_as_long():
    optimizer, _ = made(lr=1.0, cap=3.0, max_steps=4)
    np.testing.assert_allclose(tried(optimizer, lambda t: -(t**2))[1:-1], [1, 3, 9, 27])
    for lost in (math.inf, math.nan):
        optimizer, _ = made(lr=1.0, cap=4.0, max_steps=4)
        found = tried(optimizer, lambda t, lost=lost: lost if t > 0.1 else -t)
        np.testing.assert_allclose(found[1:], [1, 1 / 4, 1 / 16, 1 / 4, 1 / 16])


def test_polyaks_rule_is_the_published_one_with_the_slope():
    optimizer, _ = made(lr=0.1, rule="polyak", max_steps=4)
    losses = [9.0, 8.0, 6.0, 5.0, 4.0]
    left = iter(losses)
    found = tried(optimizer, lambda t: next(left), gradient=2.0)
    jumps = [1 + loss / 4.0 for loss in losses[1:-1]]
    np.testing.assert_allclose(found[:-1], 0.1 * np.cumsum([0.0, 1.0, *jumps]), rtol=1e-12)


def test_on_a_line_the_first_published_jump_is_polyaks():
    jumps = []
    for about in ({"variant": "published"}, {"rule": "polyak", "cap": 1e9}):
        optimizer, _ = made(lr=0.1, max_steps=1 if "variant" in about else 2, **about)
        jumps.append(tried(optimizer, lambda t: 50 - t)[1:3])
    np.testing.assert_allclose(*jumps, rtol=1e-12)


def test_a_rate_too_long_is_shortened_and_no_loss_rises():
    for rule in RULES:
        for lr in (1e-6, 1e-3, 1.0, 1e3):
            optimizer, theta = made(lr=lr, rule=rule)
            losses = [valley(torch.tensor(point)).item() for point in walk(optimizer, theta, 20)]
            assert np.all(np.diff(losses) <= 0) and losses[-1] < losses[0], (rule, lr)


@pytest.mark.parametrize("rule", RULES)
def test_it_ends_at_the_best_point_it_tried_bit_by_bit(rule):
    optimizer, theta = made(rule=rule, lr=0.01)
    for _ in range(10):
        seen = [(valley(theta).item(), theta.detach().clone())]
        optimizer.zero_grad()
        valley(theta).backward()

        def closure(seen=seen):
            seen.append((valley(theta).item(), theta.detach().clone()))
            return valley(theta)

        loss = optimizer.step(closure)
        lowest, at = min(seen, key=lambda one: one[0])
        assert torch.equal(theta, at) and loss.item() == lowest


@pytest.mark.parametrize("rule", RULES)
def test_in_float32_on_a_deep_net_it_never_stops_being_finite(rule):
    """A parabola without a cap jumps to infinity here: the losses along -g are those of a product
    of many layers.
    """
    torch_net = nn.Sequential(*(nn.Linear(6, 6) for _ in range(7)))
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    for i, parameter in enumerate(torch_net.parameters()):
        nn.init.normal_(parameter, std=0.4, generator=torch.Generator().manual_seed(i))
    for lr in (1e-4, 1.0, 1e4):
        net = copy.deepcopy(torch_net)
        optimizer = KeepVaulting(net.parameters(), lr=lr, rule=rule)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            loss = ((net(x) - x) ** 2).mean()
            loss.backward()
            losses.append(optimizer.step(lambda net=net: ((net(x) - x) ** 2).mean(), loss).item())
        assert (
            np.isfinite(losses).all() and losses[-1] < 0.9 * ((torch_net(x) - x) ** 2).mean().item()
        )


@pytest.mark.parametrize("rule", RULES)
def test_at_the_minimum_it_stays(rule):
    optimizer, theta = made(rule=rule)
    theta.data.zero_()
    assert not walk(optimizer, theta, 2, bowl).any() and (
        optimizer.mini_steps,
        optimizer.forwards,
    ) == (0, 0)


# Counts, state, refusals; what it shares with KeepStepping is tested there.


def test_every_forward_pass_and_mini_step_is_counted():
    optimizer, theta = made()
    calls = []
    for known in (True, False, False):
        optimizer.zero_grad()
        loss = valley(theta)
        loss.backward()
        before = len(calls)
        optimizer.step(lambda: calls.append(1) or valley(theta), loss if known else None)
        assert optimizer.forwards == len(calls) - before == optimizer.mini_steps + (not known)
    assert optimizer.total_forwards == len(calls) == optimizer.total_mini_steps + 2


@pytest.mark.parametrize(
    "about", [{}, {"rule": "polyak", "cap": 3.0}, {"variant": "published", "max_steps": 7}]
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
    copied_at, copied = copy.deepcopy((theta, optimizer))
    assert np.array_equal(walk(copied, copied_at, 3), walk(optimizer, theta, 3))


def test_groups_walk_together_each_at_its_own_rate():
    """Two groups at rates r and 4 r walk as one at rate r does in the coordinates theta / (1, 2)."""
    stretch = torch.tensor([1.0, 1.0, 2.0, 2.0], dtype=torch.float64)
    a, b = (
        nn.Parameter(part.clone()) for part in torch.tensor(START, dtype=torch.float64).split(2)
    )
    both = KeepVaulting([{"params": [a]}, {"params": [b], "lr": 8e-3}], lr=2e-3)
    alone = nn.Parameter(torch.tensor(START, dtype=torch.float64) / stretch)
    one = KeepVaulting([alone], lr=2e-3)
    for _ in range(8):
        for optimizer, at in (
            (both, lambda: valley(torch.cat([a, b]))),
            (one, lambda: valley(stretch * alone)),
        ):
            optimizer.zero_grad()
            loss = at()
            loss.backward()
            optimizer.step(at, loss)
    torch.testing.assert_close(torch.cat([a, b]), stretch * alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("change", [{"lr": 0.0}, {"max_steps": 0}, {"cap": 1.0}, {"cap": math.inf}, {"cap": math.nan},
                                    {"rule": "newton"}, {"variant": "text"}])  # fmt: skip
def test_bad_arguments_are_named_with_bound_and_value(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=name) as error:
        made(**change)
    assert str(value) in str(error.value) and "\n" not in str(error.value)


def test_a_first_loss_not_finite_or_not_polyaks_is_refused():
    optimizer, theta = made()
    theta.grad = torch.ones_like(theta)
    for loss in (None, torch.tensor(math.nan)):
        with pytest.raises(Diverged, match="loss is nan after mini-step 0 of step"):
            optimizer.step(lambda: torch.tensor(math.nan), loss)
    theta.grad[1] = math.inf
    with pytest.raises(Diverged, match="gradient is not finite before step 2"):
        optimizer.step(lambda: torch.tensor(1.0))
    optimizer, theta = made(rule="polyak")
    theta.grad = torch.ones_like(theta)
    with pytest.raises(ValueError, match="losses of at least 0, got -1"):
        optimizer.step(lambda: torch.tensor(-1.0))
    assert theta.tolist() == list(START)
