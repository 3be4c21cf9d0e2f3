"""Fetch, check and convert data sets: the commands `data fetch`, `data verify`, `data shard`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Fetch, check and convert data sets.")


@app.command()
def fetch(name: str) -> None:
    """Download a data set, check it and put it where REPLICATE_DATA says, else into data/."""
    from replicate import datasets

    datasets.fetch(name)
    typer.echo(f"{name} is at hand")


@app.command()
def verify(name: str) -> None:
    """Check every file of a data set against its checksum."""
    from replicate import datasets

    for file, digest in datasets.verify(name):
        typer.echo(f"ok  {digest[:16]}  {file}")


@app.command()
def shard(
    name: str,
    tree: Annotated[Path, typer.Argument(help="has train/WNID/*.JPEG and val/")],
    classes: Annotated[int | None, typer.Option(help="of a part of the tree")] = None,
    jobs: Annotated[int, typer.Option(help="processes; -1 is one for every core")] = -1,
) -> None:
    """Decode the folders of ImageNet once into shards of data set NAME; goes on where it was."""
    from replicate import datasets

    typer.echo(f"{name} is at hand: {datasets.shard(name, tree, classes, jobs)}")
