"""What a notebook is told, what it runs on, and how it is run without a browser."""

import ast
import os
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import pandas as pd
from pydantic import ValidationError

from replicate import claims, datasets, paths
from replicate.errors import BadData, BadParameter, Failure, Killed, Missing, unknown

PARAMETERS = ("preset", "overrides", "device")


def settings(module: ModuleType, preset: str, overrides: Mapping[str, object], device: str = "auto") -> dict:
    """data set -> Settings of a preset, with overrides, for the data sets at hand; and the device set for all workers.

    An override `lr` goes to every data set, `cifar10.lr` to one, which must then be at hand. A data set that is not at
    hand is fetched where its server answers; else one line says that it is left out. Raises BadParameter, Missing, or
    Unavailable for a device that is not there.
    """
    os.environ["REPLICATE_DEVICE"] = device
    _check_device(preset)
    chosen = overridden(module, preset, overrides)
    named = {key.partition(".")[0] for key in overrides if "." in key}
    return {
        dataset: one
        for dataset, one in chosen.items()
        if dataset in module.SYNTHETIC or _at_hand(dataset, asked=dataset in named)
    }


def overridden(module: ModuleType, preset: str, overrides: Mapping[str, object]) -> dict:
    """data set -> Settings of a preset with overrides, whether or not the data are at hand. Raises BadParameter."""
    if not isinstance(preset, str) or preset not in module.PRESETS:
        raise unknown("preset", str(preset), module.PRESETS)
    chosen = dict(module.PRESETS[preset])
    known = [f.name for f in fields(module.PAPER)]
    for key in overrides:
        dataset, dot, name = key.rpartition(".")
        if dot and dataset not in chosen:
            raise unknown(f"data set of preset {preset!r}", dataset, chosen)
        if name not in known:
            raise unknown("setting", name, known)
    for dataset, one in chosen.items():
        general = {key: value for key, value in overrides.items() if "." not in key}
        own = {key.partition(".")[2]: value for key, value in overrides.items() if key.startswith(f"{dataset}.")}
        chosen[dataset] = _replaced(one, general | own)
    return chosen


def parsed(assignments: list[str]) -> dict[str, object]:
    """What the command line's `--set name=value` say, values as Python literals, lists as tuples.

    Raises BadParameter on a text without `=`.
    """
    found = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise BadParameter(f"--set takes name=value, got {text!r}")
        found[name.strip()] = _literal(value.strip())
    return found


def missing(module: ModuleType, preset: str) -> list[str]:
    """Data sets of a preset that are not at hand."""
    real = [d for d in module.PRESETS[preset] if d not in module.SYNTHETIC]
    return [d for d in real if d not in datasets.NAMES or not datasets.at_hand(d)]


def run(experiment, module: ModuleType, settings: Mapping[str, object]) -> pd.DataFrame:
    """The experiment's rows on each of the data sets it is meant for, from disk where they are: `runs.over`."""
    from replicate import report, runs

    return runs.over(experiment, report.settings_of(module, experiment, settings))


def deviations(module: ModuleType, settings: Mapping[str, object]) -> pd.DataFrame:
    """What the settings change in the paper's: a row a field, a column a data set, empty where as printed."""
    from replicate import runs

    parts = [runs.deviations(one, module.PAPER).assign(dataset=dataset) for dataset, one in settings.items()]
    table = pd.concat(parts).astype(str).pivot(index=["field", "paper"], columns="dataset", values="here")
    return table.fillna("").reset_index(level="paper")


def decided(verdicts: pd.DataFrame) -> str:
    """Claim, case and verdict of the rows that every preset decides, one a line: what strict nbval compares."""
    rows = verdicts[verdicts.kind.isin(claims.WITHOUT_INTERVAL) & (verdicts.verdict != "not tested")]
    width = max(map(len, rows.claim))
    return "\n".join(f"{row.claim:{width}}  {row.case:28}  {row.verdict}" for row in rows.itertuples())


def execute(name: str, preset: str, overrides: Mapping[str, object], device: str) -> Path:
    """Run a source's notebook into `build/<preset>/<source>.ipynb`; the path.

    An older output is removed first and the new one appears only when it is whole; what an unsuccessful run got to
    stays beside it as `.part.ipynb`. Raises Killed if the kernel died, else the failure that the notebook raised.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    start, output = paths.NOTEBOOKS / f"{name}.ipynb", paths.BUILD / preset / f"{name}.ipynb"
    given = dict(zip(PARAMETERS, (preset, dict(overrides), device), strict=True))
    if extra := set(given) ^ set(papermill.inspect_notebook(start)):
        raise BadData(f"{start.name} must take the parameters {', '.join(PARAMETERS)}; differs in {sorted(extra)}")
    part = output.with_suffix(".part.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            start, part, given, kernel_name="python3", cwd=start.parent, progress_bar=False, start_timeout=180,
            config=_kernel_config(),
        )  # fmt: skip
    except DeadKernelError:
        raise Killed(
            f"the process of notebook {name} died (memory?); run the same command to go on; see {part}"
        ) from None
    except (papermill.PapermillExecutionError, CellTimeoutError) as error:
        line = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}".splitlines()[0]
        raise Failure(f"notebook {name} failed: {line}; see {part}") from None
    part.replace(output)
    return output


def refresh(name: str) -> None:
    """Run a source's notebook in place at its own parameters and keep the outputs: nbval's reference."""
    import nbformat
    from nbclient import NotebookClient

    path = paths.NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    os.environ["TQDM_DISABLE"] = "1"
    about = {"metadata": {"path": str(path.parent)}}
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", record_timing=False, resources=about, config=_kernel_config()
    ).execute()
    paths.write_atomic(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())


def _check_device(preset: str) -> None:
    from replicate import runs

    if runs.device() == "cpu" and preset == "gpu" and os.environ["REPLICATE_DEVICE"] != "cpu":
        raise BadParameter(
            "preset 'gpu' takes days without CUDA and this machine has none; say --device cpu to run it here"
        )


def _at_hand(dataset: str, asked: bool) -> bool:
    """Whether a data set is here or could be fetched; if it was asked for by name, its absence is an error."""
    if dataset not in datasets.NAMES:
        print(f"going on without {dataset}: it is only found, never fetched, and its experiments are not built yet",
              file=sys.stderr)  # fmt: skip
        return False
    if datasets.at_hand(dataset):
        return True
    try:
        datasets.fetch(dataset)
    except Missing as error:
        if asked:
            raise
        print(f"going on without {dataset}: {error}", file=sys.stderr)
        return False
    return True


def _replaced(one, changes: Mapping[str, object]):
    try:
        return replace(one, **changes)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][:1])) or "settings"
        what = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise BadParameter(f"{name}: {what[0].lower()}{what[1:]}{got}") from None


def _literal(text: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return float(text) if text.lower() in ("nan", "inf", "-inf") else text
    return tuple(value) if isinstance(value, list) else value


def _kernel_config():
    """Kernels talk encrypted where they can; older ones ignore it. Silences ipykernel's warning about plain TCP."""
    from traitlets.config import Config

    config = Config()
    for manager in ("KernelManager", "AsyncKernelManager"):
        config[manager].transport_encryption = "auto"
    return config
