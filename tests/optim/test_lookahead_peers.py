"""Lookahead beside other people's: optax's rule, and the others where they keep to Algorithm 1.

Each peer's rule is written out as a loop over NumPy vectors; the peer itself is asked where
installed.
"""

import numpy as np
import pytest
import torch
from torch import nn

from replicate.optim import SGD, Adam, AdamW, Lookahead

LR = 0.1
START = np.array([0.5, -1.0, 1.5, 0.25])
CURVATURE = np.array([1.0, 0.3, 0.05, 2.0])
NOISE = np.random.default_rng(0).standard_normal((40, 4))


def gradient(t: int, fast: np.ndarray) -> np.ndarray:
    return CURVATURE * fast + NOISE[t]


# Inner optimizers: each is a function of nothing that gives update(g, w), with a fresh state.


def descent():
    return lambda g, w: -LR * g


def heavy(nesterov=False):
    m = np.zeros(4)

    def update(g, w):
        nonlocal m
        m = g + 0.9 * m
        return -LR * (g + 0.9 * m if nesterov else m)

    return update


def of_adam(decay=0.0):
    m = np.zeros(4)
    v = np.zeros(4)
    t = 0

    def update(g, w):
        nonlocal m, v, t
        t += 1
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        scaled = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return -LR * (scaled + decay * w)

    return update


def of_rmsprop():
    v = np.zeros(4)

    def update(g, w):
        nonlocal v
        v = 0.9 * v + 0.1 * g**2
        return -LR * g / (np.sqrt(v) + 1e-8)

    return update


INNER = {
    "sgd": (descent, lambda p: SGD(p, lr=LR)),
    "momentum": (heavy, lambda p: SGD(p, lr=LR, momentum=0.9)),
    "nesterov": (lambda: heavy(True), lambda p: SGD(p, lr=LR, momentum=0.9, nesterov=True)),
    "adam": (of_adam, lambda p: Adam(p, lr=LR)),
    "adamw": (lambda: of_adam(0.01), lambda p: AdamW(p, lr=LR, weight_decay=0.01)),
    "rmsprop": (of_rmsprop, lambda p: torch.optim.RMSprop(p, lr=LR, alpha=0.9)),
}
CYCLES = [(5, 0.5), (1, 0.8), (3, 0.2), (7, 1.0)]
every_inner = pytest.mark.parametrize("inner", INNER)


def optax_rule(made, k, alpha, reset) -> np.ndarray:
    """optax.lookahead: both updates at once, the difference to the slow weights let in at a sync."""
    fast = START.copy()
    slow = START.copy()
    update = made()
    path = []
    for t in range(40):
        change = update(gradient(t, fast), fast)
        sync = float(t % k == k - 1)
        difference = fast + change - slow
        slow = slow + sync * alpha * difference
        fast = fast + change - sync * (1 - alpha) * difference
        if sync and reset:
            update = made()
        path.append(np.concatenate([fast, slow]))
    return np.array(path)


def ours(made, k, alpha, inner_state) -> np.ndarray:
    w = nn.Parameter(torch.from_numpy(START.copy()))
    optimizer = Lookahead(made([w]), k, alpha, inner_state)
    path = []
    for t in range(40):
        w.grad = torch.from_numpy(gradient(t, w.detach().numpy()))
        optimizer.step()
        path.append(torch.cat([w.detach(), optimizer.state[w]["slow"]]).numpy())
    return np.array(path)


@pytest.mark.parametrize("k, alpha", CYCLES)
@pytest.mark.parametrize("inner_state", ["maintain", "reset"])
@every_inner
def test_equals_the_rule_of_optax(inner, inner_state, k, alpha):
    dull, made = INNER[inner]
    expected = optax_rule(dull, k, alpha, inner_state == "reset")
    np.testing.assert_allclose(ours(made, k, alpha, inner_state), expected, rtol=0, atol=2e-15)


@pytest.mark.parametrize("k, alpha", CYCLES)
@pytest.mark.parametrize("reset", [False, True])
@every_inner
def test_equals_optax_where_it_is_installed(inner, reset, k, alpha):
    optax = pytest.importorskip("optax")
    jax = pytest.importorskip("jax")
    made = {
        "sgd": lambda: optax.sgd(LR),
        "momentum": lambda: optax.sgd(LR, momentum=0.9),
        "nesterov": lambda: optax.sgd(LR, momentum=0.9, nesterov=True),
        "adam": lambda: optax.adam(LR),
        "adamw": lambda: optax.adamw(LR, weight_decay=0.01),
        "rmsprop": lambda: optax.rmsprop(LR, decay=0.9, eps_in_sqrt=False),
    }[inner]()
    with jax.enable_x64(True):
        lookahead = optax.lookahead(made, k, alpha, reset_state=reset)
        params = optax.LookaheadParams.init_synced(jax.numpy.asarray(START))
        state = lookahead.init(params)
        path = []
        for t in range(40):
            g = gradient(t, np.asarray(params.fast))
            updates, state = lookahead.update(jax.numpy.asarray(g), state, params)
            params = optax.apply_updates(params, updates)
            path.append(np.concatenate([params.fast, params.slow]))
    found = ours(INNER[inner][1], k, alpha, "reset" if reset else "maintain")
    np.testing.assert_allclose(found, np.array(path), rtol=0, atol=2e-15)


def timm_rule(made, k, alpha, synced: bool) -> np.ndarray:
    """timm's and alphadl's: the slow weights are made at the first pull, unless synced before."""
    fast = START.copy()
    slow = START.copy() if synced else None
    update = made()
    path = []
    for t in range(40):
        fast = fast + update(gradient(t, fast), fast)
        if t % k == k - 1:
            slow = fast if slow is None else slow
            slow = slow + alpha * (fast - slow)
            fast = slow
        path.append(fast)
    return np.array(path)


@every_inner
def test_timms_first_pull_pulls_nothing_and_ours_does(inner):
    dull, made = INNER[inner]
    found = ours(made, 5, 0.5, "maintain")[:, :4]
    np.testing.assert_allclose(found, timm_rule(dull, 5, 0.5, True), rtol=0, atol=2e-15)
    late = timm_rule(dull, 5, 0.5, False)
    np.testing.assert_allclose(found[:4], late[:4], rtol=0, atol=2e-15)
    assert np.abs(found[4] - late[4]).max() > 0.05


@pytest.mark.parametrize("inner_state", ["reset", "interpolate"])
def test_a_momentum_by_another_name_is_momentum(inner_state):
    """pytorch_optimizer and the authors look for "momentum_buffer": around Adam they maintain."""
    maintained = ours(INNER["adam"][1], 5, 0.5, "maintain")
    found = ours(INNER["adam"][1], 5, 0.5, inner_state)
    assert np.array_equal(found[:5], maintained[:5])
    assert np.abs(found[5] - maintained[5]).max() > 0.01


@pytest.mark.parametrize("theirs, state", [("none", "maintain"), ("reset", "reset"),
                                           ("pullback", "interpolate")])  # fmt: skip
def test_equals_pytorch_optimizer_around_momentum(theirs, state):
    peer = pytest.importorskip("pytorch_optimizer")
    w = nn.Parameter(torch.from_numpy(START.copy()))
    optimizer = peer.Lookahead(INNER["momentum"][1]([w]), k=5, alpha=0.5, pullback_momentum=theirs)
    path = []
    for t in range(40):
        w.grad = torch.from_numpy(gradient(t, w.detach().numpy()))
        optimizer.step()
        path.append(w.detach().numpy().copy())
    found = ours(INNER["momentum"][1], 5, 0.5, state)[:, :4]
    np.testing.assert_allclose(found, np.array(path), rtol=0, atol=2e-15)


def authors_pullback(alpha=0.5, k=5) -> np.ndarray:
    """The authors' file: after the first pull the cached momentum is the live buffer itself."""
    fast = START.copy()
    slow = START.copy()
    m = np.zeros(4)
    cached = np.zeros(4)
    path = []
    for t in range(40):
        m = 0.9 * m + gradient(t, fast)
        if t >= k:
            cached = m
        fast = fast - LR * m
        if t % k == k - 1:
            slow = slow + alpha * (fast - slow)
            fast = slow
            m = alpha * m + (1 - alpha) * cached
        path.append(fast)
    return np.array(path)


def test_the_authors_second_pull_leaves_the_momentum_alone():
    found = ours(INNER["momentum"][1], 5, 0.5, "interpolate")[:, :4]
    theirs = authors_pullback()
    np.testing.assert_allclose(found[:10], theirs[:10], rtol=0, atol=2e-15)
    assert np.abs(found[10] - theirs[10]).max() > 0.01
