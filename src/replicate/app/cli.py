"""Run the sources, judge their claims, record what came out, and build the report."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from replicate import paths, progress, runs
from replicate.app import compare, data, evidence, parallel, scale
from replicate.app.extras import explain
from replicate.app.options import Device, Folder, Workers, read_seconds, set_variable, use_workers
from replicate.app.system import (
    GO_ON,
    READER_GONE,
    STOPPED,
    TERMINATED,
    drop_output,
    end_by_signal,
    explain_system,
)
from replicate.errors import BadParameter, Failure, Killed, Missing, Unavailable, unknown

click = sys.modules[
    typer.BadParameter.__module__
]  # click's exceptions; newer versions of typer carry a copy of click
AGAIN_AFTER_STOP = "stopped; run the same command again to resume"
app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
app.add_typer(data.app, name="data")
app.command()(compare.compare)
app.command()(evidence.evidence)
app.command()(scale.scale)

Budget = Annotated[
    str | None, typer.Option(help="start no further run after this time, such as 9m or 30s")
]
Preset = Annotated[str, typer.Option(help="smoke, cpu, night, gpu or paper")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="name=value, or dataset.name=value; may be repeated"),
]


@app.command("list")
def list_sources() -> None:
    """Sources, their experiments and presets."""
    from replicate.app import registry

    for source in registry.sources():
        typer.echo(f"{source.name}\n  {source.title}\n  experiments: {', '.join(source)}")
        for preset, settings in source.presets.items():
            typer.echo(f"  {preset}: {', '.join(settings)}")


@app.command()
def run(
    source: str,
    experiments: Annotated[
        list[str] | None, typer.Argument(help="all of them if none is named")
    ] = None,
    preset: Preset = "smoke",
    assignments: Sets = None,
    device: Device = "auto",
    budget: Budget = None,
    out: Folder = None,
    workers: Workers = None,
    batch_norm: Annotated[
        str | None, typer.Option(help="of several ranks: synchronised, if not said, or per-rank")
    ] = None,
) -> None:
    """Run experiments of one source; what is on disk already is not run again."""
    from replicate.app import overrides, registry

    study = registry.source(source)
    for name in experiments or ():
        if name not in list(study):
            raise unknown(f"experiment of {source}", name, study)
    until = progress.deadline() if budget is None else time.time() + read_seconds(budget)
    changes = overrides.parse(assignments or [])
    chosen = overrides.overridden(study, preset, changes)

    if out is not None:
        runs.commit()
    if preset == "paper":
        _print_paper(study, chosen)
    lines = progress.tell_now_and_then(f"run {source}")
    with use_workers(workers), parallel.join_ranks(batch_norm), lines:
        settings = overrides.settings(study, preset, changes, device)
        parallel.refuse_what_cannot([study[name] for name in experiments or study], settings)
        _run_each(study, experiments or study, settings, preset, until, out)


def _run_each(study, names, settings: dict, preset: str, until: float, out: Path | None) -> None:
    """Run the named experiments of a source, and export each to `out`."""
    from replicate import runs
    from replicate.numerics import stopwatch  # opens torch, which no refusal needs

    source = study.name
    for name in names:
        experiment, elapsed = study[name], stopwatch(wall=True)
        entries = experiment.chosen(settings)
        with progress.ends_by(until), progress.task(f"{source} {name}"):
            rows = len(runs.over(experiment, entries))
        typer.echo(f"{source} {name} [{preset}]: {rows} rows, {elapsed():.1f} s", err=True)
        if out is not None and parallel.ranks.is_first():
            runs.export(experiment, entries, preset, out)


@app.command()
def replicate(
    preset: Annotated[
        str | None, typer.Option(help="cpu, then 30 minutes of gpu where CUDA is, if not said")
    ] = None,
    only: Annotated[str | None, typer.Option(help="one source")] = None,
    assignments: Sets = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Run every source and its notebook, and print the verdicts: what `make replicate` does."""
    from replicate.app import overrides, registry
    from replicate.sources.protocol import names

    changes = overrides.parse(assignments or [])
    sources = [only] if only is not None else names()
    for name in sources:  # all is checked before anything runs
        overrides.overridden(registry.source(name), preset or "cpu", changes)

    with progress.tell_now_and_then("replicate"):
        from replicate.numerics import stopwatch

        elapsed = stopwatch(wall=True)
        with use_workers(workers):
            for name in sources:
                run(name, preset=preset or "cpu", assignments=assignments, device=device)
        _execute_notebooks(sources, preset or "cpu", changes, device)
        _tell_verdicts(sources, preset or "cpu", changes)
    typer.echo(f"done in {elapsed():.0f} s")
    if preset is None:
        _gpu_evidence_or_how(device)


def _execute_notebooks(sources: list[str], preset: str, changes: dict, device: str) -> None:
    """Run the notebooks, which load what was just run."""
    from replicate.app import notebooks

    executed = notebooks.side_by_side(
        lambda name: notebooks.execute(name, preset, changes, device), sources
    )
    executed = progress.progress(executed, "notebooks", total=len(sources))
    with set_variable("TQDM_DISABLE", "1"):  # in the kernels: a bar would stay in their outputs
        for path in executed:
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            typer.echo(f"{path.stem}: {shown}", err=True)


def _tell_verdicts(sources: list[str], preset: str, changes: dict) -> None:
    """Print the verdicts on what was run, and a sentence that says what they come to."""
    import pandas as pd

    from replicate.app import overrides, registry
    from replicate.app import verdicts as rows

    judged = []
    for name in progress.progress(sources, "sources judged"):
        settings = overrides.overridden(registry.source(name), preset, changes)
        judged.append(rows.of_runs(registry.source(name), settings, preset))
        typer.echo(_plain(judged[-1]))
    typer.echo(f"\n{rows.closing(pd.concat(judged, ignore_index=True), preset)}")


@app.command()
def verdicts(
    source: Annotated[str | None, typer.Argument()] = None,
    preset: Preset = "cpu",
    assignments: Sets = None,
    json: Annotated[bool, typer.Option("--json", help="all rows and columns as JSON")] = False,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="from data/results/ instead of build/")
    ] = False,
) -> None:
    """Print the verdicts of one source or all."""
    from replicate.app import overrides, registry

    sources = [registry.source(source)] if source is not None else registry.sources()
    changes = overrides.parse(assignments or [])
    chosen = {each.name: overrides.overridden(each, preset, changes) for each in sources}

    import pandas as pd

    from replicate.app import verdicts as rows

    tables = []
    for each in sources:
        if recorded:
            tables.append(rows.read_recorded(each, preset))
            for older in registry.list_older(each, preset):
                typer.echo(
                    f"older code: {each.name} {older}; make replicate PRESET={preset} runs it anew",
                    err=True,
                )
        else:
            tables.append(rows.of_runs(each, chosen[each.name], preset))
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise Missing(
            f"nothing is recorded at preset {preset}; run make replicate PRESET={preset}, then make record"
        )
    typer.echo(table.to_json(orient="records", indent=1) if json else _plain(table))


@app.command()
def record(
    folder: Annotated[Path | None, typer.Argument(help="a folder that `run --out` wrote")] = None,
    carry: Annotated[
        bool, typer.Option("--carry", help="results that today's code gives again count as its own")
    ] = False,
) -> None:
    """Copy what a clean tree produced from build/, or from DIR, to data/results/ and judge it anew."""
    _need_checkout("record")
    from replicate import claims
    from replicate.app import recording, registry

    if carry:
        for source in registry.sources():
            for preset in claims.PRESETS:
                for line in recording.carry(source, preset):
                    typer.echo(line)
        return
    touched = recording.record_built() if folder is None else recording.record_folder(folder)
    if not touched:
        raise Missing(
            "nothing to record: no experiment has run with this code; run make replicate first"
        )
    for name, preset in sorted(touched):
        typer.echo(f"recorded {name} at {preset}")


@app.command()
def readme(
    check: Annotated[
        bool, typer.Option("--check", help="change nothing; fail if README.md is not up to date")
    ] = False,
) -> None:
    """Render what README.md and docs/ say of the records, with figures and counts, from data/results/."""
    _need_checkout("readme")
    from replicate import claims
    from replicate.app import (
        advice,
        agreement,
        answer_figures,
        processors,
        readme,
        registry,
        verdicts,
    )

    if not check:
        for source in registry.sources():
            for preset in claims.PRESETS:
                verdicts.write_recorded(source, preset)
            answer_figures.write(source)
    path = paths.ROOT / "README.md"
    made = {
        path: readme.render(path.read_text()),
        advice.page(): advice.render(),
        agreement.path(): agreement.render(),
        processors.page(): processors.render(),
        scale.page(): scale.render(),
    }
    stale = [each for each, text in made.items() if not each.exists() or each.read_text() != text]
    if check and stale:
        raise BadParameter(
            f"{stale[0].name} does not show what data/results/ holds; run make readme and commit it"
        )
    if check and not all(map(answer_figures.is_current, registry.sources())):
        raise BadParameter(
            "docs/figures/ does not show what data/results/ holds; run make readme and commit it"
        )
    for each in stale:
        paths.write_atomic(each, made[each].encode())


@app.command("report")
def write_report() -> None:
    """Build the static report from the executed notebooks in build/."""
    with progress.tell_now_and_then("report"):
        from replicate.app import site

        typer.echo(f"report: {site.build(lambda page: typer.echo(page, err=True))}")


@app.command()
def refresh() -> None:
    """Run the notebooks in place at their own parameters and keep the outputs as the reference."""
    _need_checkout("refresh")
    from replicate.app import notebooks
    from replicate.sources.protocol import names

    list(notebooks.side_by_side(notebooks.refresh, names()))


def main() -> int:
    """Run the command line; every failure is one line on stderr and its exit code."""
    with end_by_signal() as came:
        line, code = _call()
    if came and code == STOPPED:
        code = TERMINATED
    if line:
        print(line, file=sys.stderr)
    return code


def _call() -> tuple[str, int]:
    """What went wrong in one line, "" if nothing did, and the exit code."""
    try:
        runs.check_variables()
        code = app(standalone_mode=False) or 0
        return (AGAIN_AFTER_STOP if code == STOPPED else "", code)  # newer typer reports Ctrl-C so
    except Failure as failure:
        parallel.let_the_first_speak()
        return f"{type(failure).__name__}: {failure}", failure.exit_code
    except click.NoArgsIsHelpError as help_text:
        print(help_text.format_message())
        return "", BadParameter.exit_code
    except click.ClickException as error:
        return f"BadParameter: {error.format_message()}", BadParameter.exit_code
    except ModuleNotFoundError as error:
        if (line := explain(error)) is None:
            raise
        return f"Unavailable: {line}", Unavailable.exit_code
    except BrokenPipeError:
        drop_output()
        return "", READER_GONE
    except OSError as error:
        if (explained := explain_system(error)) is None:
            raise
        return explained
    except MemoryError:
        return f"Killed: memory ran out; {GO_ON}, with fewer REPLICATE_JOBS", Killed.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return AGAIN_AFTER_STOP, STOPPED


def _plain(table) -> str:
    from replicate.app import verdicts

    return "\n\n".join(
        f"{name}\n{verdicts.plain(rows)}" for name, rows in table.groupby("source", sort=False)
    )


def _print_paper(source, settings: dict) -> None:
    """Settings, data and cost of the paper's own scale, which nobody runs by accident."""
    for entry, value in settings.items():
        typer.echo(f"{entry}: {value}")
    typer.echo(source.cost)


def _gpu_evidence_or_how(device: str) -> None:
    if device != "cpu" and runs.device() == "cuda":
        evidence.evidence(preset="gpu", budget="30m")
    else:
        typer.echo(
            "claims that need more are left; on a machine with CUDA: python -m replicate evidence --budget 30m, "
            "and overnight on any: python -m replicate evidence --preset night --budget 8h"
        )


def _need_checkout(command: str) -> None:
    """Raises Missing where the package is installed: what the command writes is the repository's."""
    if not paths.IS_CHECKOUT:
        raise Missing(
            f"{command} writes into a clone of the repository, and this is an installed package; run it there"
        )
