"""What must hold of the Keras wrapper on a backend; test_keras.py runs this file once for each.

Keras takes its backend when it is imported, so a backend is a process: KERAS_BACKEND=torch pytest
tests/optim/keras_cases.py.
"""

import doctest

import keras
import numpy as np
import pytest
import torch
from keras import ops

from replicate.errors import BadParameter
from replicate.optim import SGD, Adam
from replicate.optim import Lookahead as InTorch
from replicate.optim import keras as wrapper
from replicate.optim.keras import Lookahead

BACKEND = keras.backend.backend()
if BACKEND == "jax":  # without it jax makes float32 of every float64
    import jax

    jax.config.update("jax_enable_x64", True)

LR = 0.1
START = np.array([0.5, -1.0, 1.5, 0.25])
CURVATURE = np.array([1.0, 0.3, 0.05, 2.0])
NOISE = np.random.default_rng(0).standard_normal((40, 4))
RULES = {  # Keras' momentum is inside the rate, so plain SGD; Adam's epsilon has another place
    "sgd": (lambda: keras.optimizers.SGD(LR), lambda p: SGD(p, lr=LR)),
    "adam": (
        lambda: keras.optimizers.Adam(LR, epsilon=0.0),
        lambda p: Adam(p, lr=LR, eps=0.0),
    ),
}


@pytest.fixture(autouse=True)
def double():
    keras.backend.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)


def to_numpy(value) -> np.ndarray:
    return np.array(ops.convert_to_numpy(value))


def walk(optimizer, variable, steps=23):
    path = []
    for t in range(steps):
        g = CURVATURE * to_numpy(variable) + NOISE[t]
        optimizer.apply([ops.convert_to_tensor(g)], [variable])
        path.append(np.concatenate([to_numpy(variable), to_numpy(optimizer.slow[0])]))
    return np.array(path)


def walk_in_torch(make, k, alpha, steps=23):
    w = torch.nn.Parameter(torch.from_numpy(START.copy()))
    optimizer = InTorch(make([w]), k, alpha)
    path = []
    for t in range(steps):
        w.grad = torch.from_numpy(CURVATURE * w.detach().numpy() + NOISE[t])
        optimizer.step()
        path.append(torch.cat([w.detach(), optimizer.state[w]["slow"]]).numpy())
    return np.array(path)


@pytest.mark.parametrize("k, alpha", [(5, 0.5), (1, 0.8), (3, 0.2), (7, 1.0)])
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_torch_optimizer(rule, k, alpha):
    inner, make = RULES[rule]
    got = walk(Lookahead(inner(), k, alpha), keras.Variable(START))
    np.testing.assert_allclose(got, walk_in_torch(make, k, alpha), rtol=0, atol=1e-12)


X = np.random.default_rng(1).standard_normal((60, 3))
Y = X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3
NEAR = dict(rtol=0, atol=1e-6)  # a layer's products are in single precision, whatever is said
BATCHES = 6  # of 10 examples: 6 steps an epoch, so that k = 4 ends in the middle of an epoch


def make_model(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse")
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    return model


def fit(model, epochs, begin=0, callbacks=()):
    model.fit(
        X, Y, batch_size=10, epochs=epochs, initial_epoch=begin, shuffle=False, verbose=0,
        callbacks=list(callbacks),
    )  # fmt: skip
    return np.concatenate([w.ravel() for w in model.get_weights()])


def fit_by_hand(epochs, k, alpha, rates=None):
    """Least squares by Algorithm 1, a loop over NumPy vectors: (fast, slow)."""
    fast = np.array([1.0, 1.0, 1.0, 0.0])
    slow = fast.copy()
    inputs = np.concatenate([X, np.ones((60, 1))], axis=1)
    for t in range(epochs * BATCHES):
        x, y = (a[10 * (t % BATCHES) :][:10] for a in (inputs, Y[:, 0]))
        rate = LR if rates is None else rates[t // BATCHES]
        fast = fast - rate * 2 * x.T @ (x @ fast - y) / 10
        if t % k == k - 1:
            fast = slow = slow + alpha * (fast - slow)
    return fast, slow


def test_fit_is_algorithm_1_and_leaves_the_fast_weights():
    model = make_model(Lookahead(keras.optimizers.SGD(LR), k=4, alpha=0.5))
    fast, slow = fit_by_hand(3, 4, 0.5)  # 18 steps: 2 beyond the last pull
    np.testing.assert_allclose(fit(model, 3), fast, **NEAR)
    assert np.abs(fast - slow).max() > 1e-3
    with model.optimizer.slow_weights():
        inside = np.concatenate([w.ravel() for w in model.get_weights()])
        np.testing.assert_allclose(inside, slow, **NEAR)
        expected = ((X @ slow[:3] + slow[3] - Y[:, 0]) ** 2).mean()
        assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(model.get_weights()[0].ravel(), fast[:3], **NEAR)


def test_slow_weights_are_given_back_where_the_block_fails():
    model = make_model(Lookahead(keras.optimizers.SGD(LR), k=4))
    fast = fit(model, 1)
    with pytest.raises(RuntimeError, match="stop"), model.optimizer.slow_weights():
        raise RuntimeError("stop")
    np.testing.assert_array_equal(model.get_weights()[0].ravel(), fast[:3])


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_model_goes_on_as_if_it_had_not_stopped(rule, tmp_path):
    whole = fit(make_model(Lookahead(RULES[rule][0](), k=4, alpha=0.3)), 4)
    model = make_model(Lookahead(RULES[rule][0](), k=4, alpha=0.3))
    fit(model, 1)  # 6 steps, 2 of them in the second cycle
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.optimizer.k, loaded.optimizer.alpha) == (4, 0.3)
    assert int(loaded.optimizer.iterations) == 6
    np.testing.assert_allclose(fit(loaded, 4, begin=1), whole, rtol=0, atol=1e-12)
    fresh = keras.saving.load_model(tmp_path / "model.keras")
    for slow in fresh.optimizer.slow:
        slow.assign(np.zeros(slow.shape))
    assert np.abs(fit(fresh, 4, begin=1) - whole).max() > 1e-3  # the slow weights were in the file


def test_two_fits_are_one():
    model = make_model(Lookahead(keras.optimizers.SGD(LR), k=4))
    fit(model, 1)
    np.testing.assert_allclose(fit(model, 3, begin=1), fit_by_hand(3, 4, 0.5)[0], **NEAR)


def test_weights_that_come_after_the_build_are_where_it_begins():
    model = make_model(Lookahead(keras.optimizers.SGD(LR), k=4))
    model.set_weights([np.zeros((3, 1)), np.ones(1)])
    model.optimizer.build(model.trainable_variables)
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    np.testing.assert_allclose(fit(model, 3), fit_by_hand(3, 4, 0.5)[0], **NEAR)


def test_a_rate_that_a_callback_sets_acts_on_the_inner_optimizer():
    rates = [0.1, 0.02, 0.05]
    model = make_model(Lookahead(keras.optimizers.SGD(LR), k=4))
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rates[epoch])
    got = fit(model, 3, callbacks=[schedule])
    np.testing.assert_allclose(got, fit_by_hand(3, 4, 0.5, rates)[0], **NEAR)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)


def test_a_schedule_counts_inner_steps():
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([BATCHES - 1], [0.1, 0.02])
    got = fit(make_model(Lookahead(keras.optimizers.SGD(decay), k=4)), 2)
    np.testing.assert_allclose(got, fit_by_hand(2, 4, 0.5, [0.1, 0.02])[0], **NEAR)


def test_with_accumulated_gradients_k_counts_updates():
    theta = keras.Variable(0.0)
    inner = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    optimizer = Lookahead(inner, k=2, alpha=0.5)
    path = []
    for _ in range(8):
        optimizer.apply([ops.ones((), "float64")], [theta])
        path.append(float(to_numpy(theta)))
    assert path == [0, -1, -1, -1, -1, -2, -2, -2]


def test_a_step_that_loss_scaling_leaves_out_does_not_count():
    theta = keras.Variable(8.0)
    lookahead = Lookahead(keras.optimizers.SGD(1.0), k=2, alpha=0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(lookahead, initial_scale=2.0)
    optimizer.build([theta])
    path = []
    for gradient in (2.0, np.inf, 1.0, 1.0):  # scaled by 2, after the infinite one by 1
        gradients = [ops.convert_to_tensor(gradient, "float64")]
        if BACKEND == "jax":  # where Keras' loss scaling has this form only
            state = [v.value for v in optimizer.variables]
            [value], state = optimizer.stateless_apply(state, gradients, [theta.value])
            for variable, new in zip([theta, *optimizer.variables], [value, *state], strict=True):
                variable.assign(new)
        else:
            optimizer.apply(gradients, [theta])
        path.append(float(to_numpy(theta)))
    assert path == [7.0, 7.0, 7.0, 6.0]


def test_small_pulls_are_not_lost_in_half_precision():
    theta = keras.Variable(1.0, dtype="bfloat16")
    optimizer = Lookahead(keras.optimizers.SGD(1.0), k=1, alpha=0.1)
    for _ in range(100):
        optimizer.apply([ops.convert_to_tensor(0.01, "bfloat16")], [theta])
    assert keras.backend.standardize_dtype(optimizer.slow[0].dtype) == "float32"
    assert float(to_numpy(optimizer.slow[0])) == pytest.approx(0.9, abs=0.02)


def test_variables_are_counted_once():
    model = make_model(Lookahead(keras.optimizers.Adam(LR)))
    fit(model, 1)
    ids = [id(variable) for variable in model.optimizer.variables]
    assert len(ids) == len(set(ids)) == 2 + 2 + 4  # slow; count and rate; two moments each


def test_every_example_gives_what_it_says():
    keras.backend.set_floatx("float32")
    tried = doctest.testmod(wrapper, optionflags=doctest.ELLIPSIS)
    assert tried.attempted and not tried.failed


REFUSED = [
    (lambda: Lookahead(keras.optimizers.SGD(LR), k=0), "k must be a whole number"),
    (lambda: Lookahead(keras.optimizers.SGD(LR), alpha=1.5), "alpha must be at most 1, got 1.5"),
    (lambda: Lookahead("sgd"), "inner must be a Keras optimizer, got str"),
    (lambda: Lookahead(Lookahead(keras.optimizers.SGD(LR))), "inner must not be a Lookahead"),
    (
        lambda: Lookahead(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(LR))),
        "inner must not be a LossScaleOptimizer",
    ),
]


@pytest.mark.parametrize("call, line", REFUSED, ids=[line for _, line in REFUSED])
def test_bad_input_is_one_line(call, line):
    with pytest.raises(BadParameter, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)
