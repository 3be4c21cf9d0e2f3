"""Options that several commands of the command line share, and how their words are read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from replicate.errors import BadParameter

WORKERS = "REPLICATE_WORKERS"  # as `runs.machine` reads it, which is too heavy to refuse a word

Device = Annotated[str, typer.Option(help="auto, cpu or cuda", envvar="REPLICATE_DEVICE")]
Folder = Annotated[
    Path | None, typer.Option(help="also write one flat parquet file an experiment there")
]
Workers = Annotated[
    str | None,
    typer.Option(help="run on a Dask cluster: tcp://host:port of its scheduler, or a cluster file"),
]


@contextmanager
def use_workers(where: str | None) -> Iterator[None]:
    """Runs within the block go to this cluster, which has answered; None: where they went before.

    Raises BadParameter, Missing or BadData for what names none, Unavailable if nobody answers.
    """
    if where is None and not os.environ.get(WORKERS):
        yield
        return
    from replicate.runs import cluster_file

    where = where or os.environ[WORKERS]
    if cluster_file.is_file_name(where):
        where = str(Path(where).expanduser().absolute())  # a kernel starts in another folder
        cluster_file.read(Path(where))
    from replicate.runs import cluster

    cluster.connect(where)
    with set_variable(WORKERS, where):
        yield


def read_seconds(budget: str) -> float:
    """The seconds of a time such as "9m", "30s" or "8h". Raises BadParameter."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = budget[:-1], budget[-1:]
    if unit not in units or not number.replace(".", "", 1).isdecimal():
        raise BadParameter(f"budget must be a number with s, m or h, such as 9m, got {budget!r}")
    return float(number) * units[unit]


@contextmanager
def set_variable(name: str, value: str | None) -> Iterator[None]:
    """An environment variable as workers and kernels should see it (None: unset), and afterwards as
    it was.
    """
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
