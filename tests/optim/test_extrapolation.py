"""TaylorExtrapolation is the source's formula, and its published variant the source's code, in
float64.
"""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.optim import LBFGS, SGD, Adam, AdamW, TaylorExtrapolation, extrapolation
from replicate.optim.stencils import step_coefficients

CURVATURE = np.array([1.0, 0.3, 0.05, 2.0])
DT, LR = 0.03, 0.1


def vector(start=(1.0, -2.0, 3.0, 0.5)) -> nn.Parameter:
    return nn.Parameter(torch.tensor(start, dtype=torch.float64))


def walk(optimizer, parameter, steps: int) -> np.ndarray:
    """The path on 1/2 sum a w^2, (steps + 1, 4)."""
    path = [parameter.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        (torch.from_numpy(CURVATURE) * parameter**2).sum().mul(0.5).backward()
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


def feed(optimizer, parameter, gradients: np.ndarray) -> np.ndarray:
    """The path under gradients given beforehand; a row of nan is no gradient at that step."""
    path = [parameter.detach().numpy().copy()]
    for row in gradients:
        parameter.grad = None if np.isnan(row).any() else torch.from_numpy(np.array(row))
        optimizer.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


def gradients(steps: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((steps, 4))


# The published code.


def source_code(start, gradients, eta, h, dt) -> np.ndarray:
    """SGD and after it the source's class, three terms one after the other, its late parameters as
    it treats them.
    """
    w, path, calls, one, two = np.array(start), [np.array(start)], 0, None, None
    for g in gradients:
        calls += 1
        if not np.isnan(g).any():
            w = w - LR * g
            if one is None:
                one = two = g
            elif calls > 3:
                w = w - dt * eta / (6 * h) * (11 * g - 7 * one + 2 * two)
                w = w - dt**2 * eta / (2 * h**2) * (2 * g - 3 * one + two)
                w = w - dt**3 * eta / (6 * h**3) * (g - 2 * one + two)
            one, two = g, one
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("late", [0, 2, 5])
@pytest.mark.parametrize("h", [None, 0.02])
def test_published_is_the_source_code_a_late_gradient_included(h, late):
    given, w = gradients(12), vector()
    given[:late] = np.nan
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, h, variant="published")
    expected = source_code(w.detach().numpy(), given, LR, h or LR, DT)
    np.testing.assert_allclose(feed(optimizer, w, given), expected, rtol=1e-14, atol=1e-14)


def test_published_begins_at_call_four_corrected_at_the_order():
    plain = vector()
    alone = walk(SGD([plain], lr=LR), plain, 6)
    for variant, order, first in (
        ("published", 3, 4),
        ("corrected", 3, 3),
        ("corrected", 1, 1),
        ("corrected", 5, 5),
    ):
        w = vector()
        optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, order=order, variant=variant)
        found = walk(optimizer, w, 6)
        assert optimizer.first_step == first
        np.testing.assert_array_equal(found[:first], alone[:first])
        assert not np.allclose(found[first], alone[first])


def test_published_takes_raw_gradients_and_its_first_rate():
    given, w, plain = gradients(9), vector(), vector()
    optimizer, alone = (
        TaylorExtrapolation(Adam([w], lr=LR), DT, variant="published"),
        Adam([plain], lr=LR),
    )
    c = step_coefficients(DT / LR, 3)
    for step, g in enumerate(given):
        for one in (optimizer, alone):
            one.param_groups[0]["lr"] = LR / (step + 1)
        before = w.detach().numpy().copy()
        moved = np.diff(feed(alone, plain, g[None]), axis=0)[0]
        found = feed(optimizer, w, g[None])[1]
        added = sum(-LR * c_j * given[step - j] for j, c_j in enumerate(c)) if step >= 3 else 0
        np.testing.assert_allclose(found, before + moved + added, rtol=1e-13)


# The corrected method.


def page(start, order, derivative, every, steps, dt=DT, h=LR) -> np.ndarray:
    """Gradient descent on 1/2 sum a w^2 with the formula written out, the gradients kept in a list."""
    w, path, g = np.array(start), [np.array(start)], []
    c = step_coefficients(dt / h, order, derivative)
    for step in range(1, steps + 1):
        g.append(CURVATURE * w)
        w = w - LR * g[-1]
        if step % every == 0 and step >= order:
            w = w + sum(-LR * c_j * g[-1 - j] for j, c_j in enumerate(c))
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("history", ["weights", "gradient"])
@pytest.mark.parametrize("derivative", ["bdf", "backward"])
@pytest.mark.parametrize(
    "order, every, first", [(1, 1, 1), (2, 1, 2), (3, 1, 3), (3, 4, 4), (3, 2, 4), (6, 1, 6)]
)
def test_equals_the_formula_written_out_in_both_histories(history, derivative, order, every, first):
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, None, order, derivative, history, every)
    assert optimizer.first_step == first
    found = walk(optimizer, w, 25)
    np.testing.assert_allclose(
        found, page(found[0], order, derivative, every, 25), rtol=1e-12, atol=1e-14
    )


def test_says_whether_the_last_step_was_extrapolated():
    w = vector()
    optimizer, said = TaylorExtrapolation(SGD([w], lr=LR), DT, every=2), []
    for _ in range(8):
        walk(optimizer, w, 1)
        said.append(optimizer.did_extrapolate)
    assert (
        said == [False, False, False, True, False, True, False, True] and optimizer.first_step == 4
    )


INNER = {
    "sgd": lambda p: SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adamw": lambda p: AdamW(p, lr=0.05),
    "fused": lambda p: Adam(p, lr=0.05, fused=True),
}


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("inner", INNER)
def test_any_optimizer_is_extrapolated_through_its_weights(inner, order):
    """Lagrange's polynomial through the last states, which the gradients of the source's code are
    not.
    """
    alone, w, raw = vector(), vector(), vector()
    states = walk(INNER[inner]([alone]), alone, 5)
    found = walk(TaylorExtrapolation(INNER[inner]([w]), 0.02, order=order, every=5), w, 5)
    times = np.arange(-order, 1)
    expected = [
        np.polyval(np.polyfit(times, column, order), 0.02 / 0.05)
        for column in states[-order - 1 :].T
    ]
    np.testing.assert_array_equal(found[:5], states[:5])
    np.testing.assert_allclose(found[5], expected, rtol=1e-11)
    published = walk(TaylorExtrapolation(INNER[inner]([raw]), 0.02, variant="published"), raw, 5)
    assert not np.allclose(published[5], found[5], rtol=1e-3)


def test_a_step_of_many_closures_is_measured_from_its_start():
    def states(optimizer, w) -> np.ndarray:
        def closure():
            optimizer.zero_grad()
            loss = (torch.from_numpy(CURVATURE) * w**2).sum().mul(0.5)
            loss.backward()
            return loss

        return np.array([(optimizer.step(closure), w.detach().numpy().copy())[1] for _ in range(4)])

    w, alone = vector(), vector()
    expected = states(LBFGS([alone], lr=0.1, max_iter=3), alone)
    found = states(TaylorExtrapolation(LBFGS([w], lr=0.1, max_iter=3), DT, order=2, every=4), w)
    np.testing.assert_array_equal(found[:3], expected[:3])
    c, moved = step_coefficients(DT / LR, 2), np.diff(expected, axis=0)
    np.testing.assert_allclose(
        found[3], expected[3] + c[0] * moved[2] + c[1] * moved[1], rtol=1e-12
    )


def test_what_was_extrapolated_is_no_part_of_the_history():
    """Differences of the weights from step to step would hold it (the source's own formula does
    not).
    """
    w = vector()
    found = walk(TaylorExtrapolation(SGD([w], lr=LR), DT), w, 4)
    c = np.array(step_coefficients(DT / LR, 3))
    third, fourth = (
        found[n] - LR * CURVATURE * found[n] for n in (2, 3)
    )  # where the inner steps ended
    moved = np.array([fourth - found[3], third - found[2], found[2] - found[1]])
    np.testing.assert_allclose(found[4], fourth + c @ moved, rtol=1e-13)
    assert not np.allclose(found[4], fourth + c @ np.diff([*found[1:4], fourth], axis=0)[::-1])


def test_groups_have_rates_of_their_own():
    a, b = vector(), vector()
    groups = [{"params": [a], "lr": LR}, {"params": [b], "lr": 0.3}]
    optimizer = TaylorExtrapolation(SGD(groups), DT)
    given = gradients(6)
    for g in given:
        b.grad = torch.from_numpy(g.copy())
        feed(optimizer, a, g[None])
    for w, lr in ((a, LR), (b, 0.3)):
        alone = vector()
        expected = feed(TaylorExtrapolation(SGD([alone], lr=lr), DT), alone, given)[-1]
        np.testing.assert_array_equal(w.detach().numpy(), expected)


@pytest.mark.parametrize("history", ["weights", "gradient"])
def test_a_late_gradient_begins_a_history_and_a_gap_leaves_it(history):
    """The other parameter's steps do not count for it: no extrapolation from gradients it never
    had.
    """
    early, late, alone = vector(), vector(), vector()
    optimizer = TaylorExtrapolation(SGD([early, late], lr=LR), DT, history=history)
    given = gradients(12)
    for step, g in enumerate(given):
        late.grad = torch.from_numpy(g.copy()) if step >= 4 and step != 9 else None
        feed(optimizer, early, g[None])
    own = np.concatenate([given[4:9], given[10:]])
    expected = feed(TaylorExtrapolation(SGD([alone], lr=LR), DT, history=history), alone, own)[-1]
    np.testing.assert_array_equal(late.detach().numpy(), expected)


def test_a_parameter_without_gradient_stays_where_it_is():
    frozen, w = nn.Parameter(torch.ones(2)), vector()
    optimizer = TaylorExtrapolation(SGD([w, frozen], lr=LR), DT)
    walk(optimizer, w, 6)
    with optimizer.extrapolated():
        assert torch.equal(frozen, torch.ones(2)) and frozen not in optimizer.state


def test_gradients_written_into_again_are_not_the_history():
    a, b = vector(), vector()
    one, other = (TaylorExtrapolation(SGD([w], lr=LR), DT, history="gradient") for w in (a, b))
    b.grad = torch.zeros_like(b)
    for g in gradients(8):
        feed(one, a, g[None])
        other.zero_grad(set_to_none=False)
        b.grad += torch.from_numpy(g)
        other.step()
    assert torch.equal(a, b)


def test_a_step_that_breaks_off_begins_the_histories_anew():
    class Broken(SGD):
        stops = False

        def step(self, closure=None):
            if self.stops:
                raise KeyboardInterrupt
            return super().step(closure)

    w = vector()
    inner = Broken([w], lr=LR)
    optimizer = TaylorExtrapolation(inner, DT)
    walk(optimizer, w, 5)
    inner.stops = True
    with pytest.raises(KeyboardInterrupt):
        walk(optimizer, w, 1)
    inner.stops, alone = False, vector(w.tolist())
    np.testing.assert_array_equal(
        walk(optimizer, w, 8), walk(TaylorExtrapolation(SGD([alone], lr=LR), DT), alone, 8)
    )


# Looking without going there.


def test_extrapolated_weights_are_lent_and_go_back_bit_by_bit():
    w, alone = vector(), vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, every=None)
    path, lent = [], []
    for _ in range(6):
        path.append(walk(optimizer, w, 1)[1])
        with pytest.raises(KeyError), optimizer.extrapolated():
            lent.append(w.detach().numpy().copy())
            raise KeyError
        np.testing.assert_array_equal(w.detach().numpy(), path[-1])
    np.testing.assert_array_equal(path, walk(SGD([alone], lr=LR), alone, 6)[1:])
    np.testing.assert_array_equal(lent[:2], path[:2])
    moved = np.diff([vector().detach().numpy(), *path], axis=0)
    c = step_coefficients(DT / LR, 3)
    for n in range(2, 6):
        np.testing.assert_allclose(
            lent[n], path[n] + sum(x * moved[n - j] for j, x in enumerate(c)), rtol=1e-13
        )
    assert optimizer.first_step == 3 and not optimizer.did_extrapolate


def test_where_weights_are_extrapolated_nothing_is_added():
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT, every=3)
    walk(optimizer, w, 3)
    state, there = optimizer.state_dict(), w.detach().clone()
    other = vector(w.tolist())
    loaded = TaylorExtrapolation(SGD([other], lr=LR), DT)
    loaded.load_state_dict(state)
    for one, parameter in ((optimizer, w), (loaded, other)):
        with one.extrapolated():
            assert torch.equal(parameter, there)
    walk(optimizer, w, 1)
    there = w.detach().clone()
    with optimizer.extrapolated():
        assert not torch.equal(w, there)


# Numbers.


def test_a_number_is_a_parameter_too():
    given = gradients(5)[:, :1]
    w, number = vector([2.0]), vector(2.0)
    expected = feed(TaylorExtrapolation(SGD([w], lr=LR), DT), w, given)[:, 0]
    np.testing.assert_array_equal(
        feed(TaylorExtrapolation(SGD([number], lr=LR), DT), number, given[:, 0]), expected
    )


def test_half_precision_is_summed_in_float32_and_rounded_once():
    w = nn.Parameter(torch.linspace(-2, 2, 64).bfloat16())
    optimizer, moved = TaylorExtrapolation(SGD([w], lr=LR), 5 * LR, every=None), []
    for g in np.random.default_rng(5).standard_normal((3, 64)):
        before = w.detach().clone()
        w.grad = torch.from_numpy(g).bfloat16()
        optimizer.step()
        moved.insert(0, (w.detach() - before).float())
    c = torch.tensor(step_coefficients(5.0, 3)).float()
    expected = (w.detach().float() + c @ torch.stack(moved)).bfloat16()
    with optimizer.extrapolated():
        assert (
            w == expected
        ).float().mean() > 0.95  # a sum in another order may round the other way


def test_sums_are_float32_whatever_the_training_asks_for(monkeypatch):
    w, seen = vector(), []
    optimizer, before = (
        TaylorExtrapolation(SGD([w], lr=LR), DT),
        torch.get_float32_matmul_precision(),
    )
    add = extrapolation.add
    monkeypatch.setattr(
        extrapolation,
        "add",
        lambda *about: (seen.append(torch.get_float32_matmul_precision()), add(*about)),
    )
    torch.set_float32_matmul_precision("medium")
    try:
        walk(optimizer, w, 4)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest", "highest"]


def test_a_row_without_a_step_is_zero():
    w = vector()
    optimizer = TaylorExtrapolation(SGD([w], lr=LR), DT)
    feed(optimizer, w, gradients(1))
    assert (optimizer.state[w]["ring"] == 0).all(1).tolist() == [False, True, True]
