"""Kernels are the rows of Table 1, and their tail sums are what an average leaves of each step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from replicate.averaging import (
    KernelSchedule,
    ema,
    equivalent_schedule,
    kernel_weights,
    swa,
    two_point,
)
from replicate.averaging.kernels import describe
from replicate.training.schedules import constant, cosine

KERNELS = {
    "swa": swa(30),
    "two-point": two_point(30),
    "ema": ema(30, 0.2),
    "any": np.linspace(1, 3, 31) / 62,
}


@pytest.mark.parametrize("mu", KERNELS.values(), ids=KERNELS)
def test_tail_sums_are_what_an_average_leaves_of_each_step(mu):
    path = np.random.default_rng(0).standard_normal((len(mu), 5)).cumsum(0)
    w = np.array([mu[t + 1 :].sum() for t in range(len(mu) - 1)])
    assert np.abs(kernel_weights(mu) - w).max() < 1e-14
    assert np.abs(mu @ path - (path[0] + w @ np.diff(path, axis=0))).max() < 1e-12


def test_the_three_kernels_are_the_rows_of_table_1():
    k, delta, i = 12, 0.3, np.arange(12)
    assert np.allclose(
        kernel_weights(swa(k)), (k - i) / k, atol=1e-15
    )  # (k + 1 - i) / k with i = 1..k
    assert np.allclose(kernel_weights(two_point(k)), 0.5, atol=1e-15)
    assert np.allclose(kernel_weights(ema(k, delta)), 1 - (1 - delta) ** (k - i), atol=1e-15)
    assert np.array_equal(ema(10), ema(10, 0.5))


def test_an_ema_kernel_is_the_recursion_begun_at_the_start():
    path, average = np.random.default_rng(1).standard_normal(21), None
    for theta in path:
        average = theta if average is None else 0.9 * average + 0.1 * theta
    assert ema(20, 0.1) @ path == pytest.approx(average, rel=1e-13)


@pytest.mark.parametrize("step", [39, 70, -1])
def test_a_side_trip_cannot_leave_its_window(step):
    with pytest.raises(ValueError, match=r"step must be in \[40, 70\)"):
        equivalent_schedule(constant(0.1), swa(30), 40)(step)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: swa(0),
        lambda: two_point(-1),
        lambda: ema(10, 0.0),
        lambda: ema(10, 1.5),
        lambda: ema(0),
        lambda: kernel_weights(np.array([0.5, 0.6])),
        lambda: kernel_weights(np.array([1.0])),
        lambda: kernel_weights(np.array([np.nan, 1.0])),
        lambda: KernelSchedule(0.1, np.array([0.5, 0.6])),
        lambda: KernelSchedule(0.1, swa(3), start=-1),
    ],
)
def test_kernels_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        wrong()


# The schedule of a whole run.


@pytest.mark.parametrize("mu", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("base", [constant(0.1), cosine(0.3, 200)], ids=["constant", "cosine"])
def test_inside_its_window_the_schedule_of_a_run_is_the_side_trips_and_outside_the_definition(
    mu, base
):
    rate, trip = KernelSchedule(base, mu, 40), equivalent_schedule(base, mu, 40)
    assert [rate(step) for step in range(40, 70)] == [trip(step) for step in range(40, 70)]
    w = [
        mu[max(t + 1, 0) :].sum() for t in range(-40, 60)
    ]  # w_t = sum of mu_j over j > t, for any t
    assert [rate(step) for step in range(100)] == pytest.approx(
        [base(i) * w[i] for i in range(100)], abs=1e-12
    )


@pytest.mark.parametrize("mu", KERNELS.values(), ids=KERNELS)
def test_a_run_that_jax_traces_under_it_ends_at_the_average_of_the_main_run(mu):
    """A loop in jax, as optax would write it: frozen gradients, the schedule called with a traced
    step.
    """
    with jax.enable_x64(True):
        gradients = jnp.asarray(np.random.default_rng(3).standard_normal((70, 5)))
        start = jnp.arange(5.0)
        ends = {}
        for name, rate in (("main", constant(0.1)), ("side", KernelSchedule(0.1, mu, start=40))):

            def update(theta, step, rate=rate):
                moved = theta - rate(step) * gradients[step]
                return moved, moved

            ends[name] = jax.jit(lambda theta, f=update: jax.lax.scan(f, theta, jnp.arange(70))[1])(
                start
            )
        assert float(jnp.abs(ends["side"][69] - mu @ ends["main"][39:]).max()) < 1e-12
        assert float(jnp.abs(ends["side"][69] - ends["main"][69]).max()) > 1e-2


def test_traced_at_many_steps_at_once_it_is_what_it_is_step_by_step():
    rate = KernelSchedule(lambda step: 0.1 / (1 + step), ema(30, 0.2), 5)
    steps = np.arange(50)
    at_once = jax.jit(jax.vmap(rate))(steps)
    np.testing.assert_allclose(at_once, [rate(int(step)) for step in steps], rtol=1e-6)
    np.testing.assert_allclose(rate(steps), [rate(int(step)) for step in steps], rtol=1e-15)


@pytest.mark.parametrize(
    "mu, words",
    [
        (swa(30), "swa(k=30)"),
        (two_point(30), "two_point(k=30)"),
        (ema(30, 0.2), "ema(k=30, delta=0.2)"),
        (ema(3000), "ema(k=3000, delta=0.001667)"),
        (np.linspace(1, 3, 31) / 62, "mu(k=30: 0.01613, 0.0172, 0.01828, 0.01935, ...)"),
        (np.array([1.5, -0.5]), "mu(k=1: 1.5, -0.5)"),
    ],
)
def test_a_kernel_is_called_by_its_name_and_window(mu, words):
    assert (
        describe(mu) == words
        and repr(KernelSchedule(0.1, mu, 7)) == f"KernelSchedule({words}, start=7)"
    )
