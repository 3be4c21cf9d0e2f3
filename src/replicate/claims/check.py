"""Every name in a claims file, held against the experiments it names: what could not be judged is
refused at once.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping

from replicate.claims.claim import PRESETS, Claim
from replicate.claims.contrasts import (
    CONTRASTS,
    Contrast,
    arms_of,
    choices_of,
    options_of,
    runs_along,
    takes_rivals,
)
from replicate.errors import BadData, unknown

FIELDS = dict  # names of fields -> values
FIELD_TYPES = {"where": FIELDS, "arms": list, "base": (str, FIELDS), "control": FIELDS}
FIELD_TYPES |= dict.fromkeys(("name", "metric", "over", "ends", "of", "what"), str)
AROUND_ONE = (
    "ratio",
    "ratio per unit",
    "mean ratio",
)  # contrasts that are 1 where two arms are alike
OPTION = (str, int, float)
SHAPE_NAMES = {str: "a text", list: "a list", FIELDS: "a table", (str, FIELDS): "a text or a table",
          OPTION: "a text or a number"}  # fmt: skip


def check(
    claims: Iterable[Claim], file: str, experiments: Mapping, presets: Mapping[str, Mapping]
) -> None:
    """Raise BadData, which names the row and the field, for the first name that no experiment
    knows.

    experiments: name -> experiment, as `sources.protocol` declares it; presets: name -> entry ->
    settings.
    """
    for claim in claims:
        if not claim.experiments:
            continue
        try:
            _check(claim, experiments, presets)
        except ValueError as error:  # BadParameter is one
            raise BadData(f"{file}: claim {claim.id}: {error}") from None


def _check(claim: Claim, experiments: Mapping, presets: Mapping[str, Mapping]) -> None:
    for name in claim.experiments:
        if name not in experiments:
            raise _in("experiment", unknown("experiment", name, experiments))
    names = _Known([experiments[name] for name in claim.experiments], presets)
    contrast = _read("contrast", claim.contrast, None, names)
    for name, changed in claim.secondary.items():
        _check_shapes(f"secondary.{name}", changed)
        other = {key: value for key, value in changed.items() if key != "control"}
        if not changed:
            raise ValueError(f"secondary.{name}: changes nothing in the contrast")
        beside = _read(f"secondary.{name}", other, contrast, names)
        _read_control(f"secondary.{name}.control", changed.get("control", {}), beside, names)
    _read_control("control", claim.control, contrast, names)
    for name, changed in claim.controls.items():
        _read_control(f"controls.{name}", changed or {"what": name}, contrast, names)
    _read_level(claim.level, contrast, names)
    for name, values in claim.moved.items():
        if not values:
            raise ValueError(f"moved.{name}: names no value")
        names.check_value("moved", name, values)
    if claim.has_interval and not claim.primary:
        raise ValueError("primary: no preset has a case that is judged")
    for preset, fields in claim.primary.items():
        if PRESETS.index(preset) < PRESETS.index(claim.needs):
            raise ValueError(f"primary.{preset}: the claim needs preset {claim.needs}")
        names.check_primary(f"primary.{preset}", preset, fields, contrast)


def _read_control(place: str, changes: Mapping, contrast: Contrast, names: "_Known") -> None:
    """A control, which must not be the contrast itself. None is asked for if `changes` is empty."""
    if changes and _read(place, changes, contrast, names) == contrast:
        raise ValueError(f"{place}: changes nothing in the contrast")


def _read_level(changes: Mapping, contrast: Contrast, names: "_Known") -> None:
    """The same work done twice: two arms whose quotient an interval around 1 can judge."""
    if not changes:
        return
    level = _read("level", changes, contrast, names)
    if level.name not in AROUND_ONE:
        raise _in("level.name", unknown("quotient", level.name, AROUND_ONE))
    if level == contrast:
        raise ValueError("level: changes nothing in the contrast")


class _Known:
    """The names that a claim's experiments know together."""

    def __init__(self, experiments: list, presets: Mapping[str, Mapping]):
        self.experiments = experiments
        self.presets = presets
        self.measures = {name for each in experiments for name in each.measures}
        self.metrics = {name for each in experiments for name in each.metrics}
        self.fields = {name for each in experiments for name in each.fields} | {"dataset"}
        self.entries = {entry for preset in presets for entry in self.entries_at(preset)}

    def entries_at(self, preset: str) -> set[str]:
        """The entries of a preset that the experiments are meant for."""
        return {
            entry
            for each in self.experiments
            for entry in each.chosen(self.presets.get(preset, {}))
        }

    def check_metric(self, place: str, name: str) -> None:
        if name and name not in self.metrics:
            raise _in(place, unknown("metric", name, self.metrics))

    def check_value(
        self, place: str, name: str, value: object, settings: Collection | None = None
    ) -> None:
        """A field's name, and its value (or each of a list) under these settings, or under those of
        any preset.
        """
        if name not in self.fields:
            raise _in(place, unknown("field", name, self.fields))
        if value == []:
            raise ValueError(f"{place}.{name}: names no value")
        for each in value if isinstance(value, list) else [value]:
            vocabularies = self._values(name, settings)
            if not any(_allows(values, each) for values in vocabularies):
                listed = {
                    str(value)
                    for values in vocabularies
                    if not isinstance(values, type)
                    for value in values
                }
                hint = (
                    unknown("value", str(each), listed)
                    if listed
                    else f"must be a number, got {each!r}"
                )
                raise _in(f"{place}.{name}", hint)

    def _values(self, name: str, settings: Collection | None) -> list:
        if name == "dataset":
            return [self.entries]
        return [each.values(name, self._settings(each) if settings is None else settings)
                for each in self.experiments if name in each.fields]  # fmt: skip

    def _settings(self, experiment) -> list:
        return [
            value
            for entries in self.presets.values()
            for value in experiment.chosen(entries).values()
        ]

    def check_primary(self, place: str, preset: str, fields: Mapping, contrast: Contrast) -> None:
        """A case that the experiments make at the preset."""
        if preset not in self.presets:
            raise _in(place, unknown("preset", preset, self.presets))
        entries = self.entries_at(preset)
        if (entry := fields.get("dataset")) is not None and entry not in entries:
            raise _in(
                f"{place}.dataset", unknown(f"data set at preset {preset!r}", str(entry), entries)
            )
        if not fields:
            raise ValueError(f"{place}: names no field of the case")
        settings = [value for each in self.experiments
                    for name, value in each.chosen(self.presets[preset]).items() if name == entry or entry is None]  # fmt: skip
        in_arm = set(contrast.arms[0]) - set(contrast.where) if contrast.arms else set()
        for name, value in fields.items():
            if isinstance(value, list | dict):
                raise ValueError(f"{place}.{name}: must be one value, got {value!r}")
            if contrast.name in CONTRASTS and name in {*in_arm, contrast.over}:
                raise ValueError(f"{place}.{name}: the contrast itself says which {name}")
            if name != "dataset":
                self.check_value(place, name, value, settings)
            fixed = contrast.where.get(name, value)
            if value != fixed and not (isinstance(fixed, list) and value in fixed):
                raise ValueError(
                    f"{place}.{name}: the contrast has {name} = {fixed!r}, got {value!r}"
                )


def _read(place: str, table: Mapping, base: Contrast | None, names: _Known) -> Contrast:
    """The contrast of a table, or a base changed by it, with every name checked."""
    _check_shapes(place, table)
    table = {key: value for key, value in table.items() if key != "what"}
    try:
        contrast = Contrast.read(table) if base is None else base.change(table)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None
    if contrast.name not in CONTRASTS and contrast.name not in names.measures:
        raise _in(
            f"{place}.name", unknown("contrast", str(contrast.name), {*CONTRASTS, *names.measures})
        )
    names.check_metric(f"{place}.metric", contrast.metric)
    names.check_metric(f"{place}.ends", contrast.ends)
    for where, fields in _fields(place, contrast):
        for name, value in fields.items():
            if name == "metric" and where != f"{place}.where":
                names.check_metric(f"{where}.metric", value)
            else:
                names.check_value(where, name, value)
    if contrast.over and contrast.over not in names.fields:
        raise _in(f"{place}.over", unknown("field", contrast.over, names.fields))
    if contrast.name in CONTRASTS:
        _check_call(place, contrast)
    return contrast


def _check_shapes(place: str, table: Mapping) -> None:
    """Texts, lists and tables where they belong."""
    for name, value in table.items():
        shape = FIELD_TYPES.get(name, OPTION)
        if not isinstance(value, shape):
            raise ValueError(f"{place}.{name}: must be {SHAPE_NAMES[shape]}, got {value!r}")
        if name in ("of", "what") and not value.strip():
            raise ValueError(f"{place}.{name}: must say something, got {value!r}")
    for number, arm in enumerate(table.get("arms", ()), 1):
        if not isinstance(arm, str | FIELDS):
            raise ValueError(f"{place}.arms[{number}]: must be a text or a table, got {arm!r}")
    for fields in [table.get("base"), *table.get("arms", ())]:
        if isinstance(fields, FIELDS) and not isinstance(fields.get("metric", ""), str):
            raise ValueError(f"{place}: metric must be a text, got {fields['metric']!r}")


def _fields(place: str, contrast: Contrast) -> Iterator[tuple[str, Mapping]]:
    yield f"{place}.where", contrast.where
    for number, arm in enumerate(contrast.arms, 1):
        yield f"{place}.arms[{number}]", arm
    if contrast.base is not None:
        yield f"{place}.base", contrast.base


def _check_call(place: str, contrast: Contrast) -> None:
    """What a named contrast takes: arms, metrics, options and their values, a field to run along."""
    if contrast.name == "exact":
        fields = [name for name in ("arms", "base", "over", "ends") if getattr(contrast, name)]
        for name in [*contrast.options, *fields]:
            raise _in(place, unknown("option of 'exact'", name, ["metric", "of"]))
        return
    if not all("metric" in arm for arm in contrast.arms) and not contrast.metric:
        raise ValueError(f"{place}.metric: {contrast.name!r} needs one")
    if runs_along(contrast.name) != bool(contrast.over):
        line = "takes none" if contrast.over else "needs a field"
        raise ValueError(f"{place}.over: {contrast.name!r} {line}")
    needed, given = arms_of(contrast.name), len(contrast.arms)
    if given < needed or (given > needed and not takes_rivals(contrast.name)):
        raise ValueError(f"{place}.arms: {contrast.name!r} takes {needed} arms, got {given}")
    present = set(contrast.options)
    present |= {name for name in ("base", "ends") if getattr(contrast, name)}
    wanted = options_of(contrast.name)
    for name in present - wanted:
        raise _in(place, unknown(f"option of {contrast.name!r}", name, wanted or {"none"}))
    for name in wanted - present:
        raise ValueError(f"{place}: {contrast.name!r} needs {name}")
    for name, value in contrast.options.items():
        choices = choices_of(contrast.name, name)
        if choices and value not in choices:
            raise _in(f"{place}.{name}", unknown("choice", str(value), choices))
        if not choices and not _allows(float, value):
            raise ValueError(f"{place}.{name}: must be a number, got {value!r}")
    if len(contrast.arms) > 1 and contrast.arms[0] == contrast.arms[1]:
        raise ValueError(f"{place}.arms: the first two are the same")


def _allows(values: Collection | type, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    if values is float:
        return not isinstance(value, str) and math.isfinite(value)
    return isinstance(value, values) if isinstance(values, type) else value in values


def _in(place: str, error: object) -> ValueError:
    return ValueError(f"{place}: {error}")
