"""Fetch and check data sets: the commands `data fetch` and `data verify`."""

import typer

app = typer.Typer(no_args_is_help=True, help="Fetch and check data sets.")


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
