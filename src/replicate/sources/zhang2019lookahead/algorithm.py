"""Algorithm 1 and the wrapper of the last slides: the optimizer against the page, and the faults of
the published one against it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from replicate import models, optim
from replicate.sources.protocol import experiment
from replicate.sources.zhang2019lookahead._wrapper import PublishedLookahead, tensorflow_pulls
from replicate.sources.zhang2019lookahead.presets import ALGEBRA
from replicate.sources.zhang2019lookahead.settings import Settings

CURVATURE = np.array([1.0, 0.3, 0.05])
START = np.array([[1.0, -2.0, 3.0]])
LR = 0.1
STEPS_COMPARED = 40
ALPHA_OF_CODE = 0.8  # the authors' code
K = 5  # the same
INNERS: dict[str, Callable] = {
    "SGD": lambda p: optim.SGD(p, lr=LR),
    "momentum": lambda p: optim.SGD(p, lr=LR, momentum=0.9),
    "Nesterov": lambda p: optim.SGD(p, lr=LR, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=LR),
    "AdamW": lambda p: optim.AdamW(p, lr=LR, weight_decay=0.1),
}
BREAKS = (AttributeError, TypeError, KeyError)  # what a call that is not there ends in


@experiment(fields={"claim": str, "case": str}, metrics=("value", "control"), settings=ALGEBRA)
def algorithm(settings: Settings) -> pd.DataFrame:
    """One row per check, in float64: columns claim, case, value, control (NaN where none)."""
    rows = [
        *_pages(),
        *_identity(),
        *_memory(),
        *_momenta(),
        *_states(),
        *_interfaces(),
        *_norms(),
        *_tensorflow(),
    ]
    return pd.DataFrame(rows, columns=["claim", "case", "value", "control"])


def _path(optimizers: Callable, steps: int = STEPS_COMPARED) -> np.ndarray:
    """theta_0 .. theta_steps of three weights on a quadratic, (steps + 1, 3)."""
    from replicate.problems import minimise

    def loss(x):
        return sum(0.5 * a * x[..., i] ** 2 for i, a in enumerate(CURVATURE))

    return minimise(loss, START, optimizers, steps)[:, 0]


def _by_page(inner: str, lazy: bool = False) -> np.ndarray:
    """Algorithm 1 written out around an inner optimizer that knows nothing of it.

    lazy: the slow weights begin at the first pull, as in some public versions.
    """
    slow: list = []

    class Page:
        """Pulls, of weights that another optimizer has moved."""

        def __init__(self, theta):
            self.theta = theta
            self.steps = 0
            if not lazy:
                slow.extend(p.detach().clone() for p in theta)

        def step(self):
            self.steps += 1
            if self.steps % K == 0:
                if not slow:
                    slow.extend(p.detach().clone() for p in self.theta)
                for phi, p in zip(slow, self.theta, strict=True):
                    phi.add_(ALPHA_OF_CODE * (p.detach() - phi))
                    p.detach().copy_(phi)

    return _path(lambda theta: [INNERS[inner](theta), Page(theta)])


def _ours(inner: str) -> Callable:
    return lambda theta: [optim.Lookahead(INNERS[inner](theta), K, ALPHA_OF_CODE)]


def _pages() -> Iterator[tuple]:
    """LOOK-01 and LOOK-25: the class against the page, around one optimizer and around others."""
    for inner in INNERS:
        made, page, lazy = _path(_ours(inner)), _by_page(inner), _by_page(inner, lazy=True)
        claim = "LOOK-01" if inner == "SGD" else "LOOK-25"
        yield claim, inner, _apart(made, page), _apart(made, lazy)


def _identity() -> Iterator[tuple]:
    """LOOK-02: slow weights are an exponential average of the ends of the cycles."""
    made = _path(_ours("SGD"))
    slow = made[::K]
    ends = np.array([phi * (1 - LR * CURVATURE) ** K for phi in slow[:-1]])
    count = len(ends)
    weights = ALPHA_OF_CODE * (1 - ALPHA_OF_CODE) ** np.arange(count - 1, -1, -1)
    average = (1 - ALPHA_OF_CODE) ** count * slow[0] + weights @ ends
    yield "LOOK-02", "", float(np.abs(average - slow[-1]).max()), np.nan


def _memory() -> Iterator[tuple]:
    """LOOK-24.memory: numbers kept beside the inner optimizer's, over the weights."""
    net = models.mlp(8, (16, 16), 4, seed=0)
    optimizer = optim.Lookahead(optim.SGD(net.parameters(), lr=LR), K, ALPHA_OF_CODE)
    _step_on_ones(optimizer, net.parameters())
    weights = sum(p.numel() for p in net.parameters())
    kept = sum(tensor.numel() for state in optimizer.state.values() for tensor in state.values())
    yield "LOOK-24.memory", "", kept / weights, np.nan


def _momenta() -> Iterator[tuple]:
    """Z8: what "pullback" does to the momentum at the second pull; Z9: who is left out."""
    published, kept = (_second_pull(kind) for kind in ("published", "ours"))
    yield "Z8", "", published, kept
    for inner in ("SGD", "Adam"):
        yield "Z9.pullback", inner, _fails(lambda i=inner: _run(i, "pullback")), np.nan
    plain, reset = _run("Adam", "none"), _run("Adam", "reset")
    ours = [
        _path(lambda theta, s=state: [optim.Lookahead(INNERS["Adam"](theta), K, ALPHA_OF_CODE, s)])
        for state in ("maintain", "reset")
    ]
    yield "Z9.reset", "Adam", _apart(plain, reset), _apart(*ours)


def _second_pull(kind: str) -> float:
    """Largest of |momentum after the second pull / momentum before it - alpha (2 - alpha)|."""
    net = models.chain((1, 3), 0).double()
    curvatures = net[0].weight.new_tensor(CURVATURE)
    inner = optim.SGD(net.parameters(), lr=LR, momentum=0.9)
    if kind == "published":
        optimizer = PublishedLookahead(inner, K, ALPHA_OF_CODE, "pullback")
    else:
        optimizer = optim.Lookahead(inner, K, ALPHA_OF_CODE, "interpolate")
    weight, bias = net.parameters()
    for step in range(2 * K):
        weight.grad = weight.detach() * curvatures[:, None]
        bias.grad = bias.detach() * curvatures
        if step == 2 * K - 1:
            before = 0.9 * inner.state[weight]["momentum_buffer"] + weight.grad
        optimizer.step()
    ratio = inner.state[weight]["momentum_buffer"] / before
    return float((ratio - ALPHA_OF_CODE * (2 - ALPHA_OF_CODE)).abs().max())


def _run(inner: str, pullback_momentum: str) -> np.ndarray:
    return _path(
        lambda theta: [
            PublishedLookahead(INNERS[inner](theta), K, ALPHA_OF_CODE, pullback_momentum)
        ]
    )


def _states() -> Iterator[tuple]:
    """Z10: how far a run that was saved after 13 steps and loaded goes from one that was not."""
    yield "Z10.slow", "", _resume(PublishedLookahead)[0], _resume(optim.Lookahead)[0]
    yield "Z10.counter", "", _resume(PublishedLookahead)[1], _resume(optim.Lookahead)[1]


def _resume(wrapper: Callable) -> tuple[float, int]:
    """Largest distance of weights after 20 more steps; the steps that the counter has forgotten."""
    net = models.mlp(4, (8, 8), 2, seed=0).double()
    optimizer = wrapper(optim.SGD(net.parameters(), lr=LR, momentum=0.9), K, ALPHA_OF_CODE)
    for _ in range(13):
        _step_on_weights(optimizer, net)
    again = models.mlp(4, (8, 8), 2, seed=1).double()
    loaded = wrapper(optim.SGD(again.parameters(), lr=LR, momentum=0.9), K, ALPHA_OF_CODE)
    again.load_state_dict(net.state_dict())
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    forgotten = optimizer.counter - loaded.counter
    for _ in range(20):
        _step_on_weights(optimizer, net)
        _step_on_weights(loaded, again)
    pairs = zip(net.parameters(), again.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs), forgotten


def _interfaces() -> Iterator[tuple]:
    """Z11: calls that torch's optimizers answer and the wrapper does not."""
    calls = {
        "zero_grad(set_to_none=True)": lambda o, net: o.zero_grad(set_to_none=True),
        "defaults": lambda o, net: o.defaults,
        "add_param_group": lambda o, net: o.add_param_group({"params": _more()}),
        "a group added inside": _add_inside,
    }
    for name, call in calls.items():
        failures = []
        for wrapper in (PublishedLookahead, optim.Lookahead):
            net = models.mlp(2, (3, 3), 2, seed=0)
            made = wrapper(optim.SGD(net.parameters(), lr=LR), 1, ALPHA_OF_CODE)
            failures.append(_fails(lambda o=made, n=net, c=call: c(o, n)))
        yield "Z11", name, *failures


def _more() -> list:
    return list(models.mlp(2, (3, 3), 2, seed=1).parameters())


def _add_inside(optimizer, net) -> None:
    more = _more()
    optimizer.inner.add_param_group({"params": more})
    _step_on_ones(optimizer, [*net.parameters(), *more])


def _norms() -> Iterator[tuple]:
    """Z12: how far a pull moves BatchNorm's statistics, which stay those of the fast weights."""
    yield "Z12", "", _change_of_buffers(PublishedLookahead), _change_of_buffers(optim.Lookahead)


def _change_of_buffers(wrapper: Callable) -> float:
    """Largest change of a buffer by a step that pulls."""
    net = models.resnet8(2, 0, 4, "stride2")
    optimizer = wrapper(optim.SGD(net.parameters(), lr=LR), 1, ALPHA_OF_CODE)
    net.train()
    net(next(net.parameters()).new_ones(4, 3, 8, 8)).sum().backward()
    before = [buffer.clone() for buffer in net.buffers()]
    optimizer.step()
    after = zip(net.buffers(), before, strict=True)
    return max(float((buffer - old).double().abs().max()) for buffer, old in after)


def _tensorflow() -> Iterator[tuple]:
    """Z13: the period of the pulls, and what the first one does where slow weights begin at 0."""
    pulls = tensorflow_pulls(K, 4 * (K + 1))
    yield "Z13.period", "k=5", float(np.diff([0, *pulls]).mean()), np.nan
    fast, slow = 1.0, 0.0
    yield "Z13.first", "alpha=0.8", (slow + ALPHA_OF_CODE * (fast - slow)) / fast, np.nan


def _fails(call: Callable) -> float:
    """1 where a call ends in an error of a name, a type or a key, else 0."""
    try:
        call()
    except BREAKS:
        return 1.0
    return 0.0


def _step_on_ones(optimizer, parameters) -> None:
    for parameter in parameters:
        parameter.grad = parameter.detach() * 0 + 1
    optimizer.step()


def _step_on_weights(optimizer, net) -> None:
    """A step on half the squared norm of the weights."""
    for parameter in net.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()


def _apart(path: np.ndarray, other: np.ndarray) -> float:
    """Largest distance between two paths."""
    return float(np.abs(path - other).max())
