"""The torch scheduler leads to the average, as the function of the step does."""

import io

import numpy as np
import pytest
import torch

from replicate.averaging import EquivalentLR, KernelSchedule, ema, swa, two_point

KERNELS = {
    "swa": swa(30),
    "two-point": two_point(30),
    "ema": ema(30, 0.2),
    "any": np.linspace(1, 3, 31) / 62,
}
RATES = (0.1, 0.02)  # of two parameter groups


def optimizer():
    groups = [
        {"params": [torch.zeros(5, dtype=torch.float64, requires_grad=True)], "lr": lr}
        for lr in RATES
    ]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9)


def walked(scheduler, made, start, stop):
    """The parameters after each step, with the same gradient at each step whatever the weights:
    (steps, 10).
    """
    path = []
    for step in range(start, stop):
        for i, group in enumerate(made.param_groups):
            draw = np.random.default_rng([step, i]).standard_normal(5)
            group["params"][0].grad = torch.from_numpy(draw)
        made.step()
        if scheduler is not None:
            scheduler.step()
        path.append(torch.cat([group["params"][0].detach().clone() for group in made.param_groups]))
    return torch.stack(path)


@pytest.mark.parametrize("mu", KERNELS.values(), ids=KERNELS)
def test_a_run_under_the_scheduler_ends_at_the_average_of_the_run_without_and_stays_there(mu):
    main = walked(None, optimizer(), 0, 70)
    made = optimizer()
    side = walked(EquivalentLR(made, mu, start=40), made, 0, 75)
    expected = torch.from_numpy(mu) @ main[39:]
    assert (side[69] - expected).abs().max() < 1e-12 and torch.equal(side[69], side[74])
    assert (
        torch.equal(side[39], main[39]) and (main[69] - expected).abs().max() > 1e-2
    )  # the dull thing


def test_its_rates_are_those_of_the_schedule_for_a_base_that_changes_too():
    def base(step):
        return 0.1 / (1 + step)

    made, rates = optimizer(), []
    scheduler = EquivalentLR(made, KERNELS["ema"], start=3, base=base)
    schedule = KernelSchedule(base, KERNELS["ema"], start=3)
    for _ in range(40):
        rates.append([group["lr"] for group in made.param_groups])
        made.step()
        scheduler.step()
    assert rates == [[schedule(step)] * 2 for step in range(40)]


@pytest.mark.parametrize("cut", [1, 20, 45])
def test_it_goes_on_from_its_state_which_loads_with_weights_only(cut):
    whole = optimizer()
    expected = walked(EquivalentLR(whole, swa(30), start=30), whole, 0, 60)[-1]
    first, second = optimizer(), optimizer()
    scheduler = EquivalentLR(first, swa(30), start=30)
    walked(scheduler, first, 0, cut)
    file = io.BytesIO()
    torch.save([scheduler.state_dict(), first.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    resumed = EquivalentLR(second, two_point(4))  # its own kernel gives way to the state's
    for a, b in zip(first.param_groups, second.param_groups, strict=True):
        b["params"][0].data.copy_(a["params"][0])
    second.load_state_dict(states[1])
    resumed.load_state_dict(states[0])
    assert torch.equal(walked(resumed, second, cut, 60)[-1], expected)


def test_a_base_is_code_and_not_part_of_a_state():
    assert "base" not in EquivalentLR(optimizer(), swa(3), base=lambda step: 0.1).state_dict()


def test_its_repr_says_kernel_window_and_step():
    made = optimizer()
    scheduler = EquivalentLR(made, ema(30, 0.2), start=7)
    made.step()
    scheduler.step()
    assert repr(scheduler) == "EquivalentLR(ema(k=30, delta=0.2), start=7, step=1)"


def test_a_start_before_the_first_step_and_no_kernel_are_refused():
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        EquivalentLR(optimizer(), swa(3), start=-1)
    with pytest.raises(ValueError, match="mu must be at least two finite weights"):
        EquivalentLR(optimizer(), np.ones(3))
