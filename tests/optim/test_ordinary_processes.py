"""Two gloo processes, half of the rows each, end where one process ends on all of them."""

import socket

import pytest
import torch
import torch.distributed as dist
from rows import ROWS, WALKERS, WRAPPERS, Problem, is_same, snapshot, step
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

STEPS = 12


def trained(rank: int, name: str) -> dict:
    """The end of one process: its weights, state and, of a walker, what a plain closure is told."""
    problem = Problem()
    problem.x = problem.x[rank::2]
    problem.y = problem.y[rank::2]
    optimizer = ROWS[name].made(problem.net.parameters())
    net = problem.net
    problem.net = DistributedDataParallel(net)
    said = ""
    unchanged = True
    if name in WALKERS:
        before = snapshot(optimizer, problem.weights())
        try:
            step(optimizer, problem.loss)
        except ValueError as error:
            said = str(error)
        unchanged = is_same(before, snapshot(optimizer, problem.weights()))
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = problem.loss()
        loss.backward()
        if name in WALKERS:
            optimizer.step(lambda: averaged(problem, net), mean(loss.detach()))
        else:
            optimizer.step()
    state = optimizer.state_dict()["state"]
    return {"weights": problem.weights(), "state": state, "said": said, "unchanged": unchanged}


def averaged(problem: Problem, net) -> torch.Tensor:
    """What the refusal asks for: the module itself, and the loss averaged over the processes."""
    return mean(((net(problem.x) - problem.y) ** 2).mean())


def mean(loss: torch.Tensor) -> torch.Tensor:
    total = loss.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save({name: trained(rank, name) for name in ROWS}, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, (port, str(folder)), nprocs=2)
    return [torch.load(folder / str(rank)) for rank in range(2)]


@pytest.mark.parametrize("name", ROWS)
def test_two_processes_end_where_one_ends_on_all_rows(ends, name):
    problem = Problem()
    optimizer = ROWS[name].made(problem.net.parameters())
    for _ in range(STEPS):
        step(optimizer, problem.loss)
    torch.testing.assert_close(ends[0][name]["weights"], problem.weights(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ROWS)
def test_both_processes_hold_the_same_bits(ends, name):
    assert torch.equal(ends[0][name]["weights"], ends[1][name]["weights"])
    assert is_same(ends[0][name]["state"], ends[1][name]["state"])


@pytest.mark.parametrize("name", WALKERS)
def test_a_closure_that_calls_the_parallel_model_is_refused(ends, name):
    for end in ends:
        assert "average the loss over the processes" in end[name]["said"]
        assert "\n" not in end[name]["said"] and end[name]["unchanged"]


def test_wrappers_take_the_parallel_model_as_it_is(ends):
    assert all(ends[0][name]["said"] == "" for name in WRAPPERS)
