"""The processes of one run that torchrun has started: what the first of them decides holds for all.

Every rank goes through the same code, so that all of them meet in every step of training. What
hangs on a clock or on the disk could part them, so the first rank is asked; it alone writes into the
folder of a run. The others have a folder of their own beside it, which begins as a copy and is gone
afterwards.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replicate import progress
from replicate.errors import Unavailable, unknown

MODES = ("synchronised", "per-rank")  # over what BatchNorm takes its moments: the batch, or a slice
EXCHANGE = Path(__file__).parents[1] / "training" / "ranks.py"  # is in no experiment's digest
_joined: dict[str, object] = {"rank": 0, "ranks": 1, "batch_norm": MODES[0]}


def are_called() -> bool:
    """Whether torchrun, or what sets the same variables, has started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def count() -> int:
    """How many processes make each run together."""
    return _joined["ranks"]


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return _joined["rank"] == 0


@contextmanager
def join(batch_norm: str) -> Iterator[None]:
    """Within the block the processes that torchrun started make each run together.

    batch_norm: one of MODES. Raises BadParameter for another, Unavailable if they do not meet.
    """
    if batch_norm not in MODES:
        raise unknown("way of BatchNorm", batch_norm, MODES)
    import torch
    from torch import distributed

    on_cuda = torch.cuda.is_available() and os.environ.get("REPLICATE_DEVICE") != "cpu"
    if on_cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
        distributed.init_process_group(backend, **_meet_anew())
    except (RuntimeError, ValueError, OSError) as error:
        line = str(error).splitlines()[0]
        raise Unavailable(f"the ranks do not meet ({line}); start them with torchrun") from None
    before = dict(_joined)
    _joined.update(
        rank=distributed.get_rank(), ranks=distributed.get_world_size(), batch_norm=batch_norm
    )
    progress.agree = agree
    try:
        yield
    finally:
        progress.agree = progress.agree_alone
        _joined.update(before)
        distributed.destroy_process_group()


def _meet_anew() -> dict[str, object]:
    """Where ranks meet on one node, for `init_process_group`: not where they met before a restart.

    torchrun keeps its store over a restart, and a rank that is early would read the address of one
    that is dead. On several nodes the counts of restarts differ; there torchrun's own place is taken.
    """
    from torch.distributed import PrefixStore, TCPStore

    of_node, of_all = (os.environ.get(name) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or of_node != of_all:
        return {}
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False)
    attempt = PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    return {"store": attempt, "rank": int(os.environ["RANK"]), "world_size": int(of_all)}


def agree(value):
    """The first rank's value, on every rank; all of them have to ask."""
    if count() == 1:
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0, device="cpu")
    return values[0]


@contextmanager
def take_folder(folder: Path) -> Iterator[Path]:
    """The folder that a run of this rank writes into: `folder` on the first."""
    if is_first():
        agree(None)  # all others have linked what is there
        yield folder
        return
    mine = folder.parent / f".{folder.name}-rank{_joined['rank']}"
    shutil.rmtree(mine, ignore_errors=True)  # of a rank that was killed
    shutil.copytree(folder, mine, copy_function=_link, ignore=shutil.ignore_patterns("lock"))
    agree(None)
    try:
        yield mine
    finally:
        shutil.rmtree(mine, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """One file under two names, so that it stays when the first rank removes its own; else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def describe() -> dict[str, str]:
    """What of the ranks belongs to the class of numerics of a run; empty for a process alone.

    With moments over the whole batch their number moves the rounding alone, and is left out: a run
    may go on with another number. With moments over a slice it says how large that is.
    """
    if count() == 1:
        return {}
    mode = _joined["batch_norm"]
    code = hashlib.sha256(EXCHANGE.read_bytes()).hexdigest()[:8]
    slices = mode if mode == MODES[0] else f"{mode}, {count()}"
    return {"batch norm over ranks": slices, "exchange": code}


def name_device(name: str) -> str:
    """The device that a reader sees: how many of them made a run together, and how."""
    if count() == 1:
        return name
    return f"{count()} x {name}, BatchNorm {_joined['batch_norm']}"
