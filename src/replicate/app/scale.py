"""What presets cost on several GPUs: the command `scale`.

    hours = longest-first schedule of all seeds over the GPUs, each seed its operations / (rate x share)

A seed of an experiment goes to one GPU; so a source ends no sooner than its longest seed, however
many GPUs there are, and from there on only ranks that share a run help.
"""

import functools
import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from replicate import paths
from replicate.errors import BadData, BadParameter

LARGE_PRESETS = ("gpu", "paper")
GPUS = (1, 8, 64)
H200_RATE = 780.0  # T operations/s in bfloat16 of one H200's matrix products, assumed: the data sheet less a fifth
REACHED = (
    0.25  # of that rate: networks reach a fifth to a third, see docs/speed.md; not measured here
)


def scale(
    rate: Annotated[
        float, typer.Option(help="T operations/s of one GPU's matrix products")
    ] = H200_RATE,
    reached: Annotated[float, typer.Option(help="share of it that a network reaches")] = REACHED,
    script: Annotated[
        Path | None, typer.Option(help="print what this cluster file hands to its queue, no table")
    ] = None,
) -> None:
    """Estimate the hours of presets gpu and paper on 1, 8 and 64 GPUs."""
    if script is not None:
        from replicate.runs import cluster_file

        typer.echo(cluster_file.job_script(script), nl=False)
        return
    if not rate > 0 or not 0 < reached <= 1:
        raise BadParameter(
            f"rate must be above 0 and reached in (0, 1], got {rate:g} and {reached:g}"
        )
    typer.echo(table(rate * 1e12 * reached))


def page() -> Path:
    """Where the page about scale lies."""
    return paths.ROOT / "docs" / "scale.md"


def render() -> str:
    """The page with its table made anew, at the rate and share that the command has by default."""
    start, end = "<!-- table: python -m replicate scale -->\n", "<!-- end of table -->"
    before, _, rest = page().read_text().partition(start)
    _, mark, after = rest.partition(end)
    if not mark:
        raise BadData(f"{page().name} must hold the lines {start.strip()} and {end}")
    return f"{before}{start}{table(H200_RATE * 1e12 * REACHED)}\n{mark}{after}"


def table(operations_per_second: float) -> str:
    """Markdown: a line per source and preset, hours by the number of GPUs, and of its longest
    seed.
    """
    from replicate.app import registry

    head = " | ".join(["source", "preset", "seeds", *(f"{n} GPU" for n in GPUS), "longest seed"])
    lines = [f"| {head} |", "|" + "---|" * (len(GPUS) + 4)]
    for source in registry.sources():
        for preset in LARGE_PRESETS:
            seeds = [count / operations_per_second for count in list_seeds(source.name, preset)]
            if seeds:
                hours = [schedule(seeds, gpus) / 3600 for gpus in GPUS]
                numbers = [f"{value:.3g} h" for value in (*hours, max(seeds) / 3600)]
                cells = " | ".join([source.name, preset, str(len(seeds)), *numbers])
                lines.append(f"| {cells} |")
    return "\n".join(lines)


@functools.cache  # the networks are built to be counted, which takes seconds
def list_seeds(name: str, preset: str) -> tuple[float, ...]:
    """Operations of every seed of every experiment of a source at a preset that counts them; an
    entry whose data set nothing reads yet is left out.
    """
    from replicate.app import registry

    source = registry.source(name)
    return tuple(_list_seeds(source, source.presets.get(preset, {})))


def _list_seeds(source, entries: Mapping[str, object]) -> Iterator[float]:
    for experiment in source.values():
        for settings in experiment.chosen(entries).values():
            try:
                operations = experiment.operations(settings) if experiment.operations else 0
            except BadParameter:
                continue
            if operations:
                yield from [operations / len(settings.seeds)] * len(settings.seeds)


def schedule(seconds: list[float], gpus: int) -> float:
    """When all is done if the longest goes first and each next one to the GPU that is free first."""
    free = [0.0] * gpus
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + each)
    return max(free)
