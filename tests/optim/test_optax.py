"""The pure transformation: equal to the torch optimizer, and whole inside optax's combinators."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from replicate.errors import BadParameter
from replicate.optim import SGD, Adam, Lookahead
from replicate.optim.optax import LookaheadState, lookahead, slow_weights

LR = 0.1
START = {"w": np.array([0.5, -1.0, 1.5, 0.25]), "b": np.array(0.3)}
CURVATURE = {"w": np.array([1.0, 0.3, 0.05, 2.0]), "b": np.array(0.7)}
NOISE = np.random.default_rng(0).standard_normal((40, 5))
CYCLES = [(5, 0.5), (1, 0.8), (3, 0.2), (7, 1.0)]
INNER_STATES = ["maintain", "reset", "interpolate"]


class Pair(NamedTuple):
    """optax's GradientTransformation, for where optax is not installed."""

    init: Any
    update: Any


class Trace(NamedTuple):
    trace: Any


class Moments(NamedTuple):
    count: Any
    mu: Any
    nu: Any


def zeros(params):
    return jax.tree.map(jnp.zeros_like, params)


def descend():
    def update(g, state, params=None):
        return jax.tree.map(lambda x: -LR * x, g), state

    return Pair(lambda params: (), update)


def descend_with_momentum():
    def update(g, state, params=None):
        trace = jax.tree.map(lambda x, m: x + 0.9 * m, g, state.trace)
        return jax.tree.map(lambda m: -LR * m, trace), Trace(trace)

    return Pair(lambda params: Trace(zeros(params)), update)


def descend_as_adam():
    def update(g, state, params=None):
        t = state.count + 1
        mu = jax.tree.map(lambda x, m: 0.9 * m + 0.1 * x, g, state.mu)
        nu = jax.tree.map(lambda x, v: 0.999 * v + 0.001 * x * x, g, state.nu)

        def move(m, v):
            return -LR * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

        return jax.tree.map(move, mu, nu), Moments(t, mu, nu)

    return Pair(lambda params: Moments(jnp.int32(0), zeros(params), zeros(params)), update)


RULES = {
    "sgd": (descend, lambda p: SGD(p, lr=LR)),
    "momentum": (descend_with_momentum, lambda p: SGD(p, lr=LR, momentum=0.9)),
    "adam": (descend_as_adam, lambda p: Adam(p, lr=LR)),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def gradient(t: int, params: dict) -> dict:
    noise = {"w": NOISE[t, :4], "b": NOISE[t, 4]}
    return {name: CURVATURE[name] * np.asarray(params[name]) + noise[name] for name in params}


def walk(rule, params, steps=40, read=slow_weights):
    """Fast and slow weights after each step, (steps, 10), the update compiled."""
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, params)
        state = rule.init(params)
        update = jax.jit(rule.update)
        path = []
        for t in range(steps):
            move, state = update(gradient(t, params), state, params)
            params = jax.tree.map(jnp.add, params, move)
            slow = read(state)
            both = (params["w"], params["b"], slow["w"], slow["b"])
            path.append(np.concatenate([np.ravel(x) for x in both]))
    return np.array(path)


def walk_in_torch(make, k, alpha, inner_state, steps=40):
    w, b = (torch.nn.Parameter(torch.from_numpy(START[name].copy())) for name in ("w", "b"))
    optimizer = Lookahead(make([w, b]), k, alpha, inner_state)
    path = []
    for t in range(steps):
        g = gradient(t, {"w": w.detach().numpy(), "b": b.detach().numpy()})
        w.grad, b.grad = torch.from_numpy(g["w"]), torch.tensor(g["b"])
        optimizer.step()
        slow = [optimizer.state[p]["slow"] for p in (w, b)]
        path.append(np.concatenate([x.detach().numpy().ravel() for x in (w, b, *slow)]))
    return np.array(path)


@pytest.mark.parametrize("k, alpha", CYCLES)
@pytest.mark.parametrize("inner_state", INNER_STATES)
@every_rule
def test_equals_the_torch_optimizer(rule, inner_state, k, alpha):
    pure, make = RULES[rule]
    got = walk(lookahead(pure(), k, alpha, inner_state), START)
    expected = walk_in_torch(make, k, alpha, inner_state)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    assert np.abs(expected[-1]).max() > 0.01


def test_inner_states_differ_and_without_momentum_do_not():
    def paths(rule):
        pure = RULES[rule][0]
        return [walk(lookahead(pure(), 5, 0.5, state), START) for state in INNER_STATES]

    maintained, reset, interpolated = paths("adam")
    for other in (reset, interpolated):
        np.testing.assert_allclose(other[:5], maintained[:5], rtol=0, atol=1e-14)
        assert np.abs(other[6] - maintained[6]).max() > 0.01
    maintained, reset, interpolated = paths("sgd")
    np.testing.assert_allclose(maintained, interpolated, rtol=0, atol=1e-14)
    np.testing.assert_allclose(maintained, reset, rtol=0, atol=1e-14)


def test_a_parameter_by_the_name_of_a_moment_is_none():
    """Momenta are fields of the optimizer's state: a network may have a weight called mu."""

    class Weights(NamedTuple):
        mu: Any
        rest: Any

    params = Weights(jnp.float32(1), jnp.float32(2))
    state = lookahead(descend_as_adam(), inner_state="interpolate").init(params)
    assert len(state.momenta) == 1 and jax.tree.structure(state.momenta[0]) == jax.tree.structure(
        params
    )


def test_the_slow_weights_are_no_view_of_the_params():
    """Both are donated in a training step, which jax refuses for one buffer under two names."""
    rule = lookahead(descend(), k=2)
    params = jnp.ones(8)
    state = rule.init(params)

    def step(params, state):
        move, state = rule.update(jnp.ones(8), state, params)
        return params + move, state

    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(4):
        params, state = step(params, state)
    np.testing.assert_allclose(params, np.full(8, 0.8), atol=1e-6)  # two cycles of -0.2, halved


def test_many_at_once_under_vmap_are_as_many_one_by_one():
    rule = lookahead(descend_as_adam(), k=3, alpha=0.5)

    def run(start):
        def step(carry, t):
            params, state = carry
            move, state = rule.update(params + jnp.sin(t), state, params)
            return (params + move, state), None

        (params, state), _ = jax.lax.scan(step, (start, rule.init(start)), jnp.arange(11.0))
        return params, slow_weights(state)

    starts = jnp.array([-1.0, 0.5, 2.0])
    fast, slow = jax.vmap(run)(starts)
    one_by_one = [run(start) for start in starts]
    np.testing.assert_allclose(fast, [float(f) for f, _ in one_by_one], rtol=1e-6)
    np.testing.assert_allclose(slow, [float(s) for _, s in one_by_one], rtol=1e-6)


def test_small_pulls_are_not_lost_in_half_precision():
    rule = lookahead(Pair(lambda p: (), lambda g, s, params=None: (g, s)), k=1, alpha=0.1)
    params = jnp.bfloat16(1)
    state = rule.init(params)
    for _ in range(100):
        move, state = rule.update(jnp.bfloat16(-0.01), state, params)
        params = (params + move).astype(params.dtype)
    assert slow_weights(state).dtype == jnp.float32
    assert float(slow_weights(state)) == pytest.approx(0.9, abs=0.02)  # in bfloat16 it stays 1


REFUSED = [
    (lambda: lookahead(descend(), k=0), "k must be a whole number of at least 1, got 0"),
    (lambda: lookahead(descend(), alpha=1.5), "alpha must be at most 1, got 1.5"),
    (lambda: lookahead(descend(), inner_state="rest"), "did you mean 'reset'"),
    (lambda: lookahead(lambda g: g), "inner must be an optax transformation"),
    (lambda: lookahead(lookahead(descend())).init(1.0), "a Lookahead around another"),
    (lambda: lookahead(descend()).update(1.0, LookaheadState(0, 1.0, (), ())), "needs the params"),
    (lambda: slow_weights(((), ())), "must have one Lookahead in it, got 0"),
]


@pytest.mark.parametrize("call, line", REFUSED, ids=[line for _, line in REFUSED])
def test_bad_input_is_one_line(call, line):
    with pytest.raises(BadParameter, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)


# Inside optax's combinators, where optax is installed.


@pytest.fixture
def optax():
    return pytest.importorskip("optax", reason="optax is not installed (extra peers)")


def test_optax_pairs_equal_the_torch_optimizer(optax):
    """optax's own inner rules, with the names of its momenta."""
    inner = {
        "momentum": lambda: optax.sgd(LR, momentum=0.9),
        "adam": lambda: optax.adam(LR),
    }
    for rule, make in inner.items():
        for state in INNER_STATES:
            got = walk(lookahead(make(), 3, 0.2, state), START)
            expected = walk_in_torch(RULES[rule][1], 3, 0.2, state)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12, err_msg=f"{rule} {state}")


def test_equals_optaxs_own_lookahead(optax):
    got = walk(lookahead(optax.adam(LR), 5, 0.5), START)
    with jax.enable_x64(True):
        theirs = optax.lookahead(optax.adam(LR), 5, 0.5)
        pair = optax.LookaheadParams.init_synced(jax.tree.map(jnp.asarray, START))
        state = theirs.init(pair)
        for t in range(40):
            move, state = theirs.update(gradient(t, pair.fast), state, pair)
            pair = optax.apply_updates(pair, move)
    last = [pair.fast["w"], pair.fast["b"], pair.slow["w"], pair.slow["b"]]
    np.testing.assert_allclose(got[-1], np.concatenate([np.ravel(x) for x in last]), atol=1e-12)


def test_in_a_chain_what_comes_before_is_seen(optax):
    clipped = optax.chain(optax.clip(0.5), lookahead(optax.sgd(LR), 5, 0.5))
    inside = lookahead(optax.chain(optax.clip(0.5), optax.sgd(LR)), 5, 0.5)
    np.testing.assert_allclose(walk(clipped, START), walk(inside, START), rtol=0, atol=1e-15)
    assert np.abs(walk(clipped, START) - walk(lookahead(optax.sgd(LR)), START)).max() > 0.01


def test_masked_the_others_go_their_way_and_are_not_pulled(optax):
    mask = {"w": True, "b": False}
    rule = optax.chain(
        optax.masked(lookahead(optax.sgd(LR), 5, 0.5), mask),
        optax.masked(optax.sgd(LR), {"w": False, "b": True}),
    )
    path = walk(rule, START, read=lambda state: {"w": slow_weights(state)["w"], "b": 0.0})
    whole = walk(lookahead(optax.sgd(LR), 5, 0.5), START)
    np.testing.assert_allclose(path[:, :4], whole[:, :4], atol=1e-15)
    b = START["b"]
    for t in range(40):
        b = b - LR * (CURVATURE["b"] * b + NOISE[t, 4])
    assert path[-1, 4] == pytest.approx(float(b), abs=1e-12)


def test_inside_multi_steps_a_cycle_counts_updates(optax):
    """k = 2 around 3 gradients each: pulled after gradients 6, 12, ..., by the mean of three.

    optax divides by the count in single precision.
    """
    rule = optax.MultiSteps(lookahead(optax.sgd(LR), 2, 0.5), every_k_schedule=3)
    with jax.enable_x64(True):
        params = jnp.float64(1)
        state = rule.init(params)
        fast = slow = 1.0
        for t in range(24):
            move, state = rule.update(jnp.float64(NOISE[t, 0]), state, params)
            params = optax.apply_updates(params, move)
            if t % 3 == 2:
                fast = fast - LR * NOISE[t - 2 : t + 1, 0].mean()
            if t % 6 == 5:
                fast = slow = slow + 0.5 * (fast - slow)
            assert float(params) == pytest.approx(fast, abs=1e-7), t
            assert float(slow_weights(state)) == pytest.approx(slow, abs=1e-7), t
