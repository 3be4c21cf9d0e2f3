"""What may enter data/results/: results of a preset's own settings, from build/ or from a folder of
any machine.

Everything is checked before anything is written; a folder is recorded whole or not at all.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from replicate import paths, runs
from replicate.app import border, registry, stages, verdicts
from replicate.app.border import differ, to_plain
from replicate.app.staging import stage_results
from replicate.errors import Missing
from replicate.sources.protocol import BY_STAGES, Experiment, Source, names


def record_folder(folder: Path) -> set[tuple[str, str]]:
    """Record every table of a folder that `run --out` wrote, and judge what changed; (source,
    preset) of each.

    Raises Missing, BadData, Busy, or what the system says of a folder that cannot be written;
    data/results/ is then as it was.
    """
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not files:
        raise Missing(f"{folder} has no tables; write them there with run SOURCE --out {folder}")
    exports = [border.read(path) for path in files]
    touched = {(export.source, export.preset) for export in exports}
    with stage_results():
        for export in exports:
            path = runs.record_path(export.experiment, export.preset)
            runs.merge(path, export.rows, export.records, export.preset)
        with border.blame(folder):
            judge_recorded(touched)
    return touched


def record_built() -> set[tuple[str, str]]:
    """Record what build/ holds of every preset's own settings, and judge it; (source, preset) of
    each.

    Algebra alone is no result of a preset but smoke. Raises BadData if a run was made by a changed
    tree; data/results/ is then as it was.
    """
    if not paths.BUILD.exists():
        return set()
    with stage_results():
        touched = _merge_built()
        judge_recorded(touched)
    return touched


def _merge_built() -> set[tuple[str, str]]:
    touched = set()
    for source in registry.sources():
        for preset, settings in source.presets.items():
            chosen = {name: each.chosen(settings) for name, each in source.items()}
            ran = any(not runs.load_cached(source[name], entries).empty
                      for name, entries in chosen.items() if source[name].settings is None)  # fmt: skip
            if ran and any(
                [runs.record(source[name], entries, preset) for name, entries in chosen.items()]
            ):
                touched.add((source.name, preset))
    for preset in BY_STAGES:
        for stage in stages.stages(preset=preset):
            # Its whole table, or that of the seeds which no other machine has recorded.
            for settings in (stage.settings, stage.remaining):
                if runs.record(stage.experiment, settings, preset):
                    touched.add((stage.source, preset))
    return touched


def judge_recorded(touched: set[tuple[str, str]]) -> None:
    """Write the verdicts of sources and presets whose tables changed; speed has goals and no
    claims.
    """
    for name, preset in sorted(touched):
        if name in names():
            verdicts.write_recorded(registry.source(name), preset)


def carry(source: Source, preset: str) -> Iterator[str]:
    """Carry recorded results to today's code where one seed of theirs, run anew, is equal to six
    digits.

    One line per experiment. Results of another class of machines, or that differ, stay results of
    older code.
    """
    for experiment in source.values():
        for entry in runs.list_older(experiment, preset):
            yield f"{source.name} {experiment.name} on {entry}: {_carry(source, experiment, preset, entry)}"


def _carry(source: Source, experiment: Experiment, preset: str, entry: str) -> str:
    """Run one seed anew, all of a table that names none, and carry what is equal; what came of it."""
    table = runs.load_recorded(experiment, preset)
    recorded = table[table.dataset == entry]
    settings = experiment.chosen(source.presets[preset])[entry]
    record = runs.records_of(experiment, preset)[recorded.key.iloc[0]]
    # A field that settings had not when the result was recorded was at its default.
    before = to_plain(asdict(type(settings)())) | record["settings"]
    if runs.without_seeds(before) != runs.without_seeds(to_plain(asdict(settings))):
        return "not carried, its settings have changed"
    if record["numerics"] != runs.numerics(experiment, settings):
        return "not carried, it was recorded on another class of machines"
    there = set(recorded.seed) if "seed" in recorded else set()
    seeds = [seed for seed in getattr(settings, "seeds", ()) if seed in there]
    settings = replace(settings, seeds=(seeds[0],)) if seeds else settings
    anew = runs.round_numbers(runs.produce_or_load(experiment, settings))
    tables = [_of_seed(each, seeds[:1]) for each in (recorded, anew)]
    if difference := differ(*map(experiment.without_clock, tables)):
        return f"not carried, {difference}"
    runs.carry(experiment, preset, recorded.key.unique())
    return "carried to today's code"


def _of_seed(table: pd.DataFrame, seeds: list[int]) -> pd.DataFrame:
    """The rows of these seeds, all rows of a table that has none."""
    return table[table.seed.isin(seeds)] if seeds else table
