"""What a run is told: a preset, overrides of its settings, a device; all names are checked before
anything runs.
"""

import ast
import os
import sys
from collections.abc import Mapping
from dataclasses import fields, replace

from pydantic import ValidationError

from replicate.errors import BadParameter, Missing, unknown
from replicate.sources.protocol import Source


def settings(
    source: Source, preset: str, overrides: Mapping[str, object], device: str = "auto"
) -> dict:
    """Entry -> Settings of a preset, with overrides, for the data sets at hand; and the device set
    for all workers.

    An override `lr` goes to every entry whose settings have it, `cifar10.lr` to one, whose data set
    must then be at hand. A data set that is not is fetched where its server answers; else one line
    says that it is left out. Raises BadParameter, Missing, or Unavailable for a device that is not there.
    """
    from replicate.runs import machine

    os.environ[machine.DEVICE] = machine.check_word(device)
    _check_device(preset)
    chosen = overridden(source, preset, overrides)
    named = {chosen[key.partition(".")[0]].dataset for key in overrides if "." in key}
    wanted = dict.fromkeys(
        value.dataset for entry, value in chosen.items() if source.needs_files(entry)
    )
    absent = {dataset for dataset in wanted if not _at_hand(dataset, asked=dataset in named)}
    return {
        entry: value
        for entry, value in chosen.items()
        if not source.needs_files(entry) or value.dataset not in absent
    }


def overridden(source: Source, preset: object, overrides: object) -> dict:
    """Entry -> Settings of a preset with overrides, whether or not the data are at hand. Raises
    BadParameter.
    """
    if not isinstance(preset, str) or preset not in source.presets:
        raise unknown("preset", str(preset), source.presets)
    chosen = dict(source.presets[preset])
    _check_names(source, preset, overrides)
    general = {key: value for key, value in overrides.items() if "." not in key}
    for entry, value in chosen.items():
        particular = {
            key.partition(".")[2]: new
            for key, new in overrides.items()
            if key.startswith(f"{entry}.")
        }
        for_all = {key: new for key, new in general.items() if key in _names(value)}
        chosen[entry] = _replace(value, for_all | particular)
    return chosen


def _names(*settings: object) -> list[str]:
    """The fields of some settings that can be overridden, in their order."""
    names = (field.name for value in settings for field in fields(value))
    return [name for name in dict.fromkeys(names) if name != "dataset"]


def _check_names(source: Source, preset: str, overrides: object) -> None:
    """Raises BadParameter unless overrides are a mapping from names of settings, each with an entry
    or without.
    """
    if not isinstance(overrides, Mapping):
        raise BadParameter(f"overrides must map names of settings to values, got {overrides!r}")
    entries = source.presets[preset]
    for key in overrides:
        if not isinstance(key, str):
            raise BadParameter(f"overrides must have names as keys, got {key!r}")
        entry, dot, name = key.rpartition(".")
        if dot and entry not in entries:
            raise unknown(f"data set of preset {preset!r}", entry, entries)
        if name == "dataset":
            raise BadParameter(
                "dataset cannot be overridden; name another entry of a preset instead"
            )
        names = _names(*([entries[entry]] if dot else entries.values()))
        if name not in names:
            raise unknown("setting", name, names)


def parse(assignments: list[str]) -> dict[str, object]:
    """What the command line's `--set name=value` say, values as Python literals, lists as tuples.

    Raises BadParameter on a text without `=`.
    """
    values = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise BadParameter(f"--set takes name=value, got {text!r}")
        values[name.strip()] = _literal(value.strip())
    return values


def _check_device(preset: str) -> None:
    from replicate import runs

    if runs.device() == "cpu" and preset == "gpu" and os.environ["REPLICATE_DEVICE"] != "cpu":
        raise BadParameter(
            "preset 'gpu' takes days without CUDA and this machine has none; say --device cpu to run it here"
        )


def _at_hand(dataset: str, asked: bool) -> bool:
    """Whether a data set is here or could be fetched; where an override names it, its absence is an
    error.
    """
    from replicate import datasets

    if dataset not in datasets.NAMES:
        print(f"going on without {dataset}: nothing here reads it yet", file=sys.stderr)
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


def _replace(value, changes: Mapping[str, object]):
    try:
        return replace(value, **changes)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][:1])) or "settings"
        message = first["msg"].removeprefix("Value error, ")
        value_text = "" if first["type"] == "value_error" else f", got {first['input']!r}"[:80]
        raise BadParameter(f"{name}: {message[0].lower()}{message[1:]}{value_text}") from None


def _literal(text: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (TypeError, MemoryError, RecursionError):
        raise BadParameter(
            f"--set takes a number, a text or a list as its value, got {text[:60]!r}"
        ) from None
    except (ValueError, SyntaxError):
        return float(text) if text.lower() in ("nan", "inf", "-inf") else text
    return tuple(value) if isinstance(value, list) else value
