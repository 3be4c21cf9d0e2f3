"""Run the stages of a preset one after the other: the command `evidence`."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from replicate import progress
from replicate.app.options import Device, Folder, Workers, read_seconds, set_variable, use_workers
from replicate.errors import unknown
from replicate.sources.protocol import BY_STAGES


def evidence(
    preset: Annotated[
        str | None, typer.Option(help="night or gpu; gpu where CUDA is, else night, if not said")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="run what is missing, most valuable first, for so long")
    ] = None,
    only: Annotated[str, typer.Option(help="stages whose name begins so")] = "",
    device: Device = "auto",
    out: Folder = None,
    workers: Workers = None,
) -> None:
    """List the stages of a preset, what they decide and cost; with a budget, run those that are missing."""
    seconds = None if budget is None else read_seconds(budget)
    if preset is not None and preset not in BY_STAGES:
        raise unknown("preset of evidence", preset, BY_STAGES)

    from replicate import runs
    from replicate.app import stages

    if preset is None:
        with set_variable("REPLICATE_DEVICE", device):
            preset = stages.PRESET if runs.device() == "cuda" else BY_STAGES[0]
    if seconds is None:
        with set_variable("REPLICATE_DEVICE", device):
            typer.echo(_list_stages(preset, only))
        return
    if out is not None:
        runs.commit()
    words = ["--preset", preset, "--budget", budget, *(["--only", only] if only else [])]
    words += ["--device", device] if device != "auto" else []
    words += ["--workers", workers] if workers else []
    with (
        use_workers(workers),
        progress.ends_by(time.time() + seconds),
        progress.tell_now_and_then("evidence"),
    ):
        missing = _run_stages(preset, only, device, out)
    if missing:
        names = ", ".join(stage.name for stage in missing)
        typer.echo(f"left: {names}; go on with: python -m replicate evidence {' '.join(words)}")


def _list_stages(preset: str, only: str) -> str:
    from replicate import runs
    from replicate.app import stages

    wanted = stages.stages(only, preset=preset)
    if preset == stages.PRESET:
        return stages.table(wanted, runs.device())
    from replicate.app import prospects  # needs what a bare machine may not have

    return prospects.table(wanted, runs.device())


def _run_stages(preset: str, only: str, device: str, out: Path | None) -> list:
    """Run the stages of a preset until the deadline; those that are left."""
    from replicate.app import stages

    def say(line: str) -> None:
        typer.echo(line, err=True)

    if preset == stages.PRESET:
        dry = stages.ask_for(device) != "cuda"
        wanted = stages.stages(only, dry)
        return stages.run(wanted, out, say, stages.DRY if dry else preset)
    from replicate import runs
    from replicate.app import prospects

    wanted = stages.stages(only, preset=preset)
    os.environ["REPLICATE_DEVICE"] = device  # for workers too
    present = runs.device()
    return stages.run(wanted, out, say, preset, partial(prospects.estimate_cost, device=present))
