"""Hold two recorded pools against each other: the command `compare`."""

from pathlib import Path
from typing import Annotated

import typer

from replicate import paths

DIFFERENT = 1  # exit code where a primary word differs, as of diff


def compare(
    folder: Annotated[Path, typer.Argument(help="tables that `run --out` wrote")],
    other: Annotated[
        Path | None, typer.Argument(help="a second such folder; data/results/ if not named")
    ] = None,
    preset: Annotated[str, typer.Option(help="smoke, cpu, night, gpu or paper")] = "cpu",
    keep: Annotated[
        str | None, typer.Option(help="keep FOLDER's verdicts, under its processor's name")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="both pools and every row as JSON")] = False,
) -> None:
    """Compare two recorded pools of one preset row by row, as of two processors.

    Exit code 1 if a primary row has another word in the second pool, 0 if none has; secondary rows,
    controls and rows that only one pool has decide nothing. With --keep the folder's verdicts are
    those that docs/processors.md holds against data/results/.
    """
    from replicate.app import comparison, processors

    second = paths.RESULTS if other is None else other
    table = comparison.compare(folder, second, preset)
    if keep is not None:
        processors.keep(folder, keep)
    show = comparison.to_json if json else comparison.tell
    typer.echo(show(table, str(folder), str(second)))
    if comparison.changes_a_verdict(table):
        raise typer.Exit(DIFFERENT)
