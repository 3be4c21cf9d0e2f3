"""Every name and value in a claims file is held against the experiments: a wrong one is refused, by
row and field.
"""

import copy
import dataclasses
import sys

import pytest
from examples import ROW, changed, checked, claim

from replicate import claims
from replicate.app import registry
from replicate.claims.contrasts import Contrast
from replicate.errors import BadData
from replicate.sources.protocol import names

CONTRAST = next(line for line in ROW.splitlines() if line.startswith("contrast"))
ARMS = 'arms = ["trip", "average"]'
PRIMARY = '{dataset = "digits", kernel = "swa", k = 100}'


def contrast(text: str) -> str:
    """The row with another contrast, and without what changes it."""
    lines = [line for line in ROW.splitlines() if not line.startswith(("control", "secondary"))]
    return changed(CONTRAST, f"contrast = {{{text}}}", "\n".join(lines))


PAIR = 'metric = "loss", arms = ["trip", "average"]'
BAD = {
    "experiment": (
        changed('"figure_1"', '"figure_2"'),
        "experiment: unknown experiment 'figure_2'; did you mean",
    ),
    "contrast": (changed('"ratio of gains"', '"ratio of gain"'), "contrast.name: unknown contrast"),
    "contrast without a name": (changed('name = "ratio of gains", ', ""), "contrast: "),
    "name that is a number": (changed('"ratio of gains"', "3"), "contrast.name: "),
    "name that is a list": (changed('"ratio of gains"', '["ratio"]'), "contrast.name: "),
    "metric": (
        changed('metric = "loss"', 'metric = "los"'),
        "contrast.metric: unknown metric 'los'; did you mean",
    ),
    "no metric": (changed('metric = "loss", ', ""), "contrast.metric: "),
    "empty metric": (changed('metric = "loss"', 'metric = ""'), "contrast.metric: "),
    "metric that is a number": (changed('metric = "loss"', "metric = 3"), "contrast.metric: "),
    "metric of an arm that is a number": (
        changed(f"{ARMS}, base", 'arms = [{arm = "trip", metric = 3}, "raw"], base'),
        "metric must be a text",
    ),
    "metric of an arm": (
        changed(f"{ARMS}, base", 'arms = [{arm = "trip", metric = "x"}, "average"], base'),
        "contrast.arms[1].metric: unknown metric 'x'",
    ),
    "arm": (
        changed(f"{ARMS}, base", 'arms = ["trip", "averages"], base'),
        "contrast.arms[2].arm: unknown value",
    ),
    "arms that are a number": (
        changed(f"{ARMS}, base", "arms = 3, base"),
        "contrast.arms: must be a list",
    ),
    "arms that are a text": (
        changed(f"{ARMS}, base", 'arms = "trip", base'),
        "contrast.arms: must be a list",
    ),
    "arm that is a number": (changed(f"{ARMS}, base", "arms = [1, 2], base"), "contrast.arms[1]: "),
    "arm that is a list": (
        changed(f"{ARMS}, base", 'arms = [["trip"], "average"], base'),
        "contrast.arms[1]: ",
    ),
    "two arms that are one": (
        changed(f"{ARMS}, base", 'arms = ["trip", "trip"], base'),
        "first two are the same",
    ),
    "one arm": (changed(f"{ARMS}, base", 'arms = ["trip"], base'), "takes 2 arms, got 1"),
    "three arms": (
        changed(f"{ARMS}, base", 'arms = ["trip", "average", "raw"], base'),
        "takes 2 arms, got 3",
    ),
    "field of an arm": (
        changed(f"{ARMS}, base", 'arms = ["trip", {arms = "raw"}], base'),
        "unknown field 'arms'",
    ),
    "value of a field": (
        changed("where = {kernel", "where = {k = 11, kernel"),
        "contrast.where.k: unknown value '11'",
    ),
    "true for a window": (
        changed("where = {kernel", "where = {k = true, kernel"),
        "contrast.where.k: ",
    ),
    "text for a number": (
        changed("where = {kernel", 'where = {rate = "fast", kernel'),
        "must be a number, got 'fast'",
    ),
    "nan for a number": (
        changed("where = {kernel", "where = {rate = nan, kernel"),
        "contrast.where.rate: ",
    ),
    "number for a text": (
        changed("where = {kernel", "where = {note = 3, kernel"),
        "contrast.where.note: ",
    ),
    "where that is a number": (
        changed('where = {kernel = "swa"}', "where = 3"),
        "contrast.where: must be a table",
    ),
    "where that is a text": (
        changed('where = {kernel = "swa"}', 'where = "swa"'),
        "contrast.where: must be a table",
    ),
    "list in a list": (
        changed('where = {kernel = "swa"}', 'where = {kernel = [["swa"]]}'),
        "contrast.where.kernel",
    ),
    "list of no values": (
        changed('where = {kernel = "swa"}', "where = {kernel = []}"),
        "names no value",
    ),
    "table for a value": (
        changed('where = {kernel = "swa"}', "where = {kernel = {a = 1}}"),
        "contrast.where.kernel",
    ),
    "metric in where": (
        changed('where = {kernel = "swa"}', 'where = {metric = "loss"}'),
        "unknown field 'metric'",
    ),
    "base": (
        changed('base = "raw"', 'base = "row"'),
        "contrast.base.arm: unknown value 'row'; did you mean 'raw'",
    ),
    "base that is a number": (
        changed('base = "raw"', "base = 3"),
        "contrast.base: must be a text or a table",
    ),
    "no base": (changed('base = "raw", ', ""), "needs base"),
    "option": (
        changed('base = "raw"', 'base = "raw", better = "lower"'),
        "unknown option of 'ratio of gains'",
    ),
    "field to run along": (changed('base = "raw"', 'base = "raw", over = "k"'), "contrast.over: "),
    "no field to run along": (contrast(f'name = "share below", {PAIR}'), "contrast.over: "),
    "unknown field to run along": (
        contrast(f'name = "share below", {PAIR}, over = "n"'),
        "unknown field 'n'",
    ),
    "choice": (
        contrast(
            'name = "gain over the better", metric = "loss", arms = ["trip", "raw", "start"],better = "low"'
        ),
        "contrast.better: unknown choice 'low'; did you mean 'lower'",
    ),
    "no choice": (
        contrast('name = "gain over the better", metric = "loss", arms = ["trip", "raw", "start"]'),
        "needs better",
    ),
    "scale": (
        contrast(f'name = "slope", {PAIR}, over = "k", scale = "ln"'),
        "contrast.scale: unknown choice 'ln'",
    ),
    "ends": (
        contrast(
            'name = "log2 ratio of times", metric = "seconds", arms = ["trip", "raw"], ends = "len"'
        ),
        "contrast.ends: unknown metric 'len'",
    ),
    "no rival": (
        contrast('name = "closest", metric = "loss", arms = ["trip"]'),
        "takes 2 arms, got 1",
    ),
    "words that are a number": (
        changed('base = "raw"', 'base = "raw", of = 3'),
        "contrast.of: must be a text",
    ),
    "arm of the control": (
        changed('"constant", "average"', '"constants", "average"'),
        "control.arms[1].arm: ",
    ),
    "name of the control": (
        changed('what = "constant-rate"', "what = 3"),
        "control.what: must be a text",
    ),
    "control that is the claim": (
        changed('"constant", "average"', '"trip", "average"'),
        "control: changes nothing",
    ),
    "control that is a name": (
        changed(', arms = ["constant", "average"]', ""),
        "control: changes nothing",
    ),
    "arm of another control": (
        changed('controls.other = {arms = ["other"', 'controls.other = {arms = ["others"'),
        "controls.other.arms[1].arm: ",
    ),
    "another control that is the claim": (ROW + "controls.x = {}\n", "controls.x: changes nothing"),
    "metric beside": (
        changed('{metric = "top1"', '{metric = "top5"'),
        "secondary.accuracy.metric: ",
    ),
    "contrast beside that is the claim": (
        ROW + "secondary.x = {}\n",
        "secondary.x: changes nothing",
    ),
    "control beside": (
        changed('control = {arms = ["other", "average"]}}', 'control = {arms = ["o", "average"]}}'),
        "secondary.accuracy.control.arms[1].arm: ",
    ),
    "control beside that is a number": (
        changed('control = {arms = ["other", "average"]}}', "control = 3}"),
        "secondary.accuracy.control: must be a table",
    ),
    "data set": (
        changed('dataset = "digits"', 'dataset = "digit"'),
        "primary.cpu.dataset: unknown data set at preset",
    ),
    "data set of another preset": (
        ROW + changed("100}", "10}", f"primary.smoke = {PRIMARY}"),
        "primary.smoke: ",
    ),
    "data set it is not meant for": (
        ROW + 'primary.gpu = {dataset = "other-set"}\n',
        "primary.gpu.dataset: ",
    ),
    "window of another data set": (
        changed("k = 100}", "k = 1000}"),
        "primary.cpu.k: unknown value '1000'",
    ),
    "true in the primary case": (changed("k = 100}", "k = true}"), "primary.cpu.k: "),
    "list in the primary case": (
        changed("k = 100}", "k = [100]}"),
        "primary.cpu.k: must be one value",
    ),
    "field of the primary case": (
        changed("k = 100}", "n = 100}"),
        "primary.cpu: unknown field 'n'",
    ),
    "primary case the contrast has not": (
        changed('kernel = "swa", k', 'kernel = "ema", k'),
        "contrast has kernel",
    ),
    "arm in the primary case": (
        changed("k = 100}", 'arm = "trip"}'),
        "the contrast itself says which arm",
    ),
    "primary case of no field": (changed(PRIMARY, "{}"), "primary.cpu: names no field"),
    "no primary case": (changed(f"primary.cpu = {PRIMARY}\n", ""), "primary: no preset"),
    "preset that the source lacks": (
        ROW + 'primary.night = {dataset = "digits"}\n',
        "unknown preset 'night'",
    ),
    "field it runs along": (
        contrast(f'name = "share below", {PAIR}, over = "k"'),
        "the contrast itself says which k",
    ),
    "arms of an exact row": (
        contrast(f'name = "exact", {PAIR}'),
        "unknown option of 'exact' 'arms'",
    ),
    "option of an exact row": (
        contrast('name = "exact", metrik = "loss"'),
        "unknown option of 'exact' 'metrik'",
    ),
    "deep names": (
        contrast(f"name = {'{a = ' * 150}1{'}' * 150}"),
        "contrast.name: must be a text",
    ),
}


@pytest.mark.parametrize("text, named", BAD.values(), ids=BAD)
def test_what_could_not_be_judged_is_refused(tmp_path, text, named):
    with pytest.raises(BadData) as error:
        checked(tmp_path, text)
    line = str(error.value)
    assert line.startswith("someone2020.toml: claim A-1: ") and named in line
    assert "\n" not in line and error.value.exit_code == 65


GOOD = {
    "as it stands": ROW,
    "without control": contrast(f'name = "difference", {PAIR}'),
    "along a field": changed(
        ", k = 100", "", contrast(f'name = "slope", {PAIR}, over = "k", scale = "log2"')
    ),
    "a list of cases": contrast(
        f'name = "difference", {PAIR}, where = {{kernel = ["swa", "ema"]}}'
    ),
    "each arm its metric": contrast(
        'name = "ratio", arms = [{arm = "trip", metric = "loss"}, {arm = "raw", metric = "top1"}]'
    ),
    "any number": contrast(f'name = "difference", {PAIR}, where = {{rate = 0.3, kernel = "swa"}}'),
    "rivals": contrast(
        'name = "closest", metric = "loss", arms = ["trip", "raw", "other", "start"]'
    ),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_can_be_judged_is_let_through(tmp_path, text):
    assert checked(tmp_path, text)[0].id == "A-1"


def test_a_claim_without_experiment_has_no_names():
    later = claim(experiment="", contrast={}, control={"what": "anything"})
    claims.check([later], "someone2020.toml", {}, {})
    with pytest.raises(BadData, match="experiment: unknown experiment 'figure_1'"):
        claims.check([claim()], "someone2020.toml", {}, {})


# Every name that is shipped, replaced by one that nobody has.

TELLS = ("what", "of")  # texts for readers
WRONG_NUMBER = 987_654_321


def places(value, path=()):
    """(path, leaf) of every text and number in a nested value, names for readers left out."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key not in TELLS:
                yield from places(inner, (*path, key))
    else:
        yield path, value


def replaced(value, path: tuple, new):
    """A copy of a nested value with the leaf at the path replaced."""
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return made


def renamed(value, path: tuple):
    """A copy of a nested value with the key at the path called otherwise."""
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner["banana"] = inner.pop(path[-1])
    return made


def is_free(source, row, path: tuple, leaf) -> bool:
    """Whether a field can have any value of this leaf's type, as its experiment or its contrast
    declares it.
    """
    if (
        len(path) == 1
        and not isinstance(leaf, str | bool)
        and path[0] in Contrast.read(row.contrast).options
    ):
        return True
    declared = [source[name].fields.get(path[-1]) for name in row.experiments]
    declared += [source[name].fields.get(path[-2]) for name in row.experiments if len(path) > 1]
    return any(values is (str if isinstance(leaf, str) else float) for values in declared)


NAMED = ("experiment", "contrast", "control", "controls", "secondary", "primary")


def refused(source, row, field: str, changed_value) -> str:
    """The line that refuses a row with one field changed; "" if it is let through."""
    try:
        wrong = dataclasses.replace(row, **{field: changed_value})
        claims.check([wrong], "x.toml", source, source.presets)
    except (BadData, ValueError) as error:
        return str(error)
    return ""


def mutations(source, row):
    """(field, path, changed value) for every leaf and key of a row that is a name or a value."""
    for field in NAMED:
        value = getattr(row, field)
        if isinstance(value, str):
            yield field, (), "banana"
            continue
        for path, leaf in places(value):
            if not is_free(source, row, path, leaf):
                yield (
                    field,
                    path,
                    replaced(value, path, "banana" if isinstance(leaf, str) else WRONG_NUMBER),
                )
            if not isinstance(leaf, str):
                yield field, path, replaced(value, path, "banana")
                yield field, path, replaced(value, path, True)
            keyed = path if isinstance(path[-1], str) else path[:-1]
            labels = len(keyed) == 1 and field in ("controls", "secondary")
            if keyed and not labels:
                yield field, path, renamed(value, keyed)


@pytest.mark.parametrize("name", names())
def test_no_wrong_name_of_a_shipped_row_is_let_through(name):
    source = registry.source(name)
    through, tried = [], 0
    for row in (row for row in registry.claims_of(source) if row.experiments):
        for field, path, value in mutations(source, row):
            line, tried = refused(source, row, field, value), tried + 1
            place = (
                field if not path else f"{field}{'' if isinstance(path[0], int) else '.' + path[0]}"
            )
            if row.id not in line or "\n" in line or place.partition(".")[0] not in line:
                through.append(f"{row.id} {field} {path}: {line or 'let through'}")
    assert tried > 100 and through == []


@pytest.mark.parametrize("name", names())
def test_every_shipped_name_is_known(name):
    assert registry.claims_of(registry.source(name))


def test_a_mutation_that_nobody_refuses_would_be_seen(monkeypatch):
    source = registry.source("sandler2023trajectories")
    row = next(row for row in registry.claims_of(source) if row.id == "TRAJ-21.loss")
    monkeypatch.setattr(
        sys.modules["replicate.claims.check"]._Known, "check_metric", lambda *_: None
    )
    lines = [
        refused(source, row, field, value)
        for field, path, value in mutations(source, row)
        if "metric" in path
    ]
    assert "" in lines
