"""Every optimizer in the loops that people write: schedulers, groups, copies, hooks, resumption.

Each is as the plain torch optimizer in the row, or refuses in one line and is the same bits as
before.
"""

import copy
import io
import math
import pickle
from functools import cache

import pytest
import torch
from rows import LR, ROWS, WALKERS, WRAPPERS, Problem, is_same, snapshot, step
from torch import nn
from torch.optim import lr_scheduler, swa_utils

STEPS = 60
FACTOR = 1.3  # an end is at most so much worse than the plain optimizer's
every_row = pytest.mark.parametrize("name", ROWS)
every_wrapper = pytest.mark.parametrize("name", WRAPPERS)
every_walker = pytest.mark.parametrize("name", WALKERS)

SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.98**t),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.98),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 30),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [30, 45]),
    "ConstantLR": lr_scheduler.ConstantLR,
    "LinearLR": lr_scheduler.LinearLR,
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.97),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 55)], [5]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.98)]
    ),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, STEPS),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 20),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, LR, step_size_up=7),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=STEPS + 1),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.05),
    "warm-up from zero": lambda o: lr_scheduler.LambdaLR(o, lambda t: min(1.0, t / 10)),
    "cosine past zero": lambda o: lr_scheduler.LambdaLR(
        o, lambda t: max(0.0, math.cos(math.pi * t / 100))
    ),
}
WITHOUT_MOMENTUM = {
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, LR, 7, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(
        o, LR, total_steps=STEPS + 1, cycle_momentum=False
    ),
}


def about(optimizer) -> list[dict]:
    """The rates and momenta of all groups."""
    names = ("lr", "momentum", "betas")
    return [{n: group[n] for n in names if n in group} for group in optimizer.param_groups]


def scheduled(optimizer, problem, schedule, steps=STEPS) -> list:
    """Rates and momenta of every step."""
    scheduler = schedule(optimizer)
    history = []
    for _ in range(steps):
        history.append(about(optimizer))
        step(optimizer, problem.loss)
        takes_loss = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
        scheduler.step(*[problem.loss().item()] * takes_loss)
    return history


@cache
def plain_run(plain, schedule) -> tuple[list, float]:
    problem = Problem()
    history = scheduled(plain(problem.net.parameters()), problem, schedule)
    return history, problem.loss().item()


@every_row
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_under_every_scheduler_it_has_the_plain_rates(name, kind):
    row = ROWS[name]
    schedule = SCHEDULERS[kind]
    problem = Problem()
    optimizer = row.made(problem.net.parameters())
    if row.walks and kind in WITHOUT_MOMENTUM:
        before = snapshot(optimizer, problem.weights())
        with pytest.raises(ValueError, match="must support momentum"):
            SCHEDULERS[kind](optimizer)
        for group in optimizer.param_groups:  # torch leaves its notes and CyclicLR's rate there
            for note in ("initial_lr", "max_lr", "min_lr"):
                group.pop(note, None)
            group["lr"] = LR
        assert is_same(before, snapshot(optimizer, problem.weights()))
        schedule = WITHOUT_MOMENTUM[kind]
    history = scheduled(optimizer, problem, schedule)
    expected, end = plain_run(row.plain, schedule)
    if kind == "ReduceLROnPlateau":  # which goes by the losses, and those are its own
        history, expected = [{}], [{}]
    for ours, theirs in zip(history, expected, strict=True):
        for group, other in zip(ours, theirs, strict=True):
            assert group == {key: other[key] for key in group}
    assert problem.loss().item() <= FACTOR * end


def test_no_scheduler_of_torch_is_left_out():
    kinds = {
        kind.__name__
        for kind in vars(lr_scheduler).values()
        if isinstance(kind, type) and issubclass(kind, lr_scheduler.LRScheduler)
    }
    assert kinds - {"LRScheduler", "_LRScheduler"} <= set(SCHEDULERS)


# Going on.


@every_row
@pytest.mark.parametrize("cut", [1, 7, 13])
def test_a_run_resumed_in_the_middle_ends_at_the_same_bits(name, cut):
    ends = []
    for is_cut in (False, True):
        problem = Problem()
        optimizer = ROWS[name].made(problem.net.parameters())
        scheduler = SCHEDULERS["CosineAnnealingLR"](optimizer)
        for t in range(24):
            if is_cut and t == cut:
                file = io.BytesIO()
                torch.save([optimizer.state_dict(), scheduler.state_dict()], file)
                file.seek(0)
                saved = torch.load(file, weights_only=True)
                optimizer = ROWS[name].made(problem.net.parameters())
                scheduler = SCHEDULERS["CosineAnnealingLR"](optimizer)
                optimizer.load_state_dict(saved[0])
                scheduler.load_state_dict(saved[1])
            step(optimizer, problem.loss)
            scheduler.step()
        ends.append(problem.weights())
    assert torch.equal(*ends)


@every_row
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_goes_on_alone_to_the_same_bits(name, copied):
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.parameters())
    for _ in range(7):
        step(optimizer, problem.loss)
    other, twin = copied((problem, optimizer))
    before = snapshot(optimizer, problem.weights())
    for _ in range(8):
        step(twin, other.loss)
    assert is_same(before, snapshot(optimizer, problem.weights()))
    for _ in range(8):
        step(optimizer, problem.loss)
    assert torch.equal(problem.weights(), other.weights())
    assert is_same(optimizer.state_dict(), twin.state_dict())


@every_row
def test_a_rate_that_is_changed_in_a_state_holds_after_loading(name):
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.parameters())
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["lr"] = 0.25
    optimizer.load_state_dict(state)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]


SPOILT = {
    "another optimizer's": lambda s: {key: s[key] for key in ("state", "param_groups")},
    "groups": lambda s: s["param_groups"].append(copy.deepcopy(s["param_groups"][0])),
    "parameters": lambda s: s["param_groups"][0]["params"].append(9),
    "names": lambda s: s["param_groups"][0].update(param_names=["weight", "offset"]),
}


@every_row
@pytest.mark.parametrize("kind", SPOILT)
def test_a_state_that_does_not_fit_changes_nothing(name, kind):
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.named_parameters())
    for _ in range(4):
        step(optimizer, problem.loss)
    state = copy.deepcopy(optimizer.state_dict())
    state = SPOILT[kind](state) or state
    before = snapshot(optimizer, problem.weights())
    with pytest.raises(ValueError, match="state_dict") as error:
        optimizer.load_state_dict(state)
    assert "\n" not in str(error.value)
    assert is_same(before, snapshot(optimizer, problem.weights()))


@every_row
def test_hooks_are_called_as_torchs(name):
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.parameters())
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    optimizer.register_state_dict_pre_hook(lambda _: calls.append("saving"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("saved"))
    optimizer.register_load_state_dict_pre_hook(lambda *_: calls.append("loading"))
    optimizer.register_load_state_dict_post_hook(lambda *_: calls.append("loaded"))
    step(optimizer, problem.loss)
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["pre", "post", "saving", "saved", "loading", "loaded"]


@every_row
def test_a_hook_may_rename_what_is_loaded(name):
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.named_parameters())
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["param_names"] = ["module.weight", "module.bias"]

    def rename(_, saved):
        group = saved["param_groups"][0]
        names = [one.removeprefix("module.") for one in group["param_names"]]
        return {**saved, "param_groups": [{**group, "param_names": names}]}

    optimizer.register_load_state_dict_pre_hook(rename)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


# Groups.


@every_row
def test_frozen_and_unused_parameters_stay_where_they_are(name):
    problem = Problem()
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    unused = nn.Parameter(torch.ones(2))
    groups = [{"params": [*problem.net.parameters(), unused]}, {"params": [frozen]}]
    optimizer = ROWS[name].made(groups)
    start = problem.loss().item()
    for _ in range(12):
        step(optimizer, problem.loss)
    assert torch.equal(frozen, torch.ones(2)) and torch.equal(unused, torch.ones(2))
    assert problem.loss().item() < start


@every_row
def test_a_group_at_rate_zero_stays_until_its_rate_rises(name):
    problem = Problem()
    weight, bias = problem.net.parameters()
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.0}]
    if name in WALKERS:
        with pytest.raises(ValueError, match="lr must be finite and above 0, got 0.0"):
            ROWS[name].made(groups)
        groups[1]["lr"] = LR
    optimizer = ROWS[name].made(groups)
    optimizer.param_groups[1]["lr"] = 0.0
    before = bias.detach().clone()
    for _ in range(12):
        step(optimizer, problem.loss)
    assert torch.equal(bias, before)
    optimizer.param_groups[1]["lr"] = LR
    step(optimizer, problem.loss)
    assert not torch.equal(bias, before)


@every_row
@pytest.mark.parametrize("of_inner", [False, True])
def test_a_group_added_later_trains_too(name, of_inner):
    problem = Problem()
    weight, bias = problem.net.parameters()
    optimizer = ROWS[name].made([weight])
    for _ in range(4):
        step(optimizer, problem.loss)
    before = bias.detach().clone()
    adding = getattr(optimizer, "inner", optimizer) if of_inner else optimizer
    adding.add_param_group({"params": [bias], "lr": 0.05})
    assert [group["lr"] for group in optimizer.param_groups] == [LR, 0.05]
    for _ in range(12):
        step(optimizer, problem.loss)
    assert not torch.equal(bias, before)


@every_wrapper
def test_groups_are_the_inner_ones_whatever_became_of_them(name):
    optimizer = ROWS[name].made(Problem().net.parameters())
    for _ in range(2):
        assert optimizer.param_groups is optimizer.inner.param_groups
        assert optimizer.defaults is optimizer.inner.defaults
        optimizer.inner.load_state_dict(copy.deepcopy(optimizer.inner.state_dict()))
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer = copy.deepcopy(optimizer)


@every_row
def test_repr_shows_settings_and_groups(name):
    optimizer = ROWS[name].made(Problem().net.parameters())
    shown = repr(optimizer)
    assert shown.startswith(f"{type(optimizer).__name__}(") and "lr: 0.1" in shown
    for setting in optimizer.SETTINGS:
        assert f"{setting}={getattr(optimizer, setting)!r}" in shown
