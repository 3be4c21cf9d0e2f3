"""What a source is made of: settings, presets, and one file per experiment, each holding one
declared object.

An experiment is a function from settings to a table, declared in the file of its name:

    @experiment(fields={"arm": ("plain", "averaged")}, metrics=("loss",), datasets=("digits",))
    def figure_3(settings: Settings) -> pd.DataFrame: ...

`fields` are the columns that tell arms and cases apart, with the values they can have; `metrics`
are the columns that are judged. What a claim names is checked against both, before anything runs.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType

import replicate.sources
from replicate.errors import unknown

THE_SOURCES = "the source's"  # setting of an entry in which nothing stands in
# And modules that begin with an underscore, which experiments share.
NOT_EXPERIMENTS = ("settings", "presets", "listing")


BY_STAGES = ("night", "gpu")  # presets whose experiments are run one after the other, by value


@dataclass(frozen=True)
class Evidence:
    """Why a larger preset should run an experiment on one of its entries, and how soon: the largest
    `value` first.
    """

    value: int
    why: str


def count_seeds(settings) -> int:
    """How many seeds the table of an experiment has that runs each of its seeds."""
    return len(settings.seeds)


@dataclass(eq=False)
class Experiment:
    """A function from settings to a table, with all that is said of it elsewhere.

    fields: column -> the values it can have: a tuple, a function from settings to a collection, or
    float or str for any. metrics: columns that are judged. datasets: entries of the presets that it
    is meant for, all of them if empty. settings: entries that it runs on at every preset instead,
    for an experiment that needs no data. needs_data: whether its data sets are files. operations:
    settings -> multiplications and additions. timed_step: (settings, device) -> (a step of training
    on random data, its operations), from which hours are foretold; None for that of `ImageSettings`'
    network. evidence, night: entry of preset gpu or night -> `Evidence`. whole: whether a seed of it
    runs in one go, so that a deadline stops it between seeds alone. derive: the recorded table of one
    data set -> the table that is judged, one row per unit and cell. clocked: column -> None for a column, or the value of rows, that hold seconds of the machine, so that no other run
    has the same. units: settings -> how many seeds its table has, or what stands for them, such as
    blocks of repeats. unbounded: columns that may hold an infinite number, and of accuracies those
    that are no share. measures: the rare measures that no named contrast expresses, by name:
    `replicate.claims.contrasts` says how they are called.
    """

    run: Callable
    fields: Mapping[str, Collection | Callable | type] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    settings: Mapping[str, object] | None = None
    needs_data: bool = False
    operations: Callable[[object], float] | None = None
    timed_step: Callable[[object, str], tuple[Callable, float]] | None = None
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    night: Mapping[str, Evidence] = field(default_factory=dict)
    whole: bool = False
    derive: Callable | None = None
    clocked: Mapping[str, object] = field(default_factory=dict)
    unbounded: tuple[str, ...] = ()
    units: Callable[[object], int] = count_seeds
    measures: Mapping[str, Callable] = field(default_factory=dict)

    def __post_init__(self):
        functools.update_wrapper(self, self.run)

    def __call__(self, settings):
        """The experiment's table."""
        return self.run(settings)

    @property
    def name(self) -> str:
        """The name of its function, its file and its figure."""
        return self.run.__name__

    def chosen(self, settings: Mapping[str, object]) -> Mapping[str, object]:
        """Entry -> settings that it runs on: its own if it has some, else those of a preset that it
        is meant for.
        """
        if self.settings is not None:
            return self.settings
        return {
            entry: value
            for entry, value in settings.items()
            if not self.datasets or entry in self.datasets
        }

    def evidence_at(self, preset: str) -> Mapping[str, Evidence]:
        """Entry -> why this preset should run it; empty at presets that are run whole."""
        return {"night": self.night, "gpu": self.evidence}.get(preset, {})

    def derive_table(self, table):
        """The table that is judged, from the table of one data set."""
        return table if self.derive is None else self.derive(table)

    def without_clock(self, table):
        """The table without what no other run has the same: columns of seconds, and rows that were
        counted in them.
        """
        for name, value in self.clocked.items():
            if name in table:
                table = table.drop(columns=name) if value is None else table[table[name] != value]
        return table

    def values(self, name: str, settings: Collection) -> Collection | type:
        """The values a field can have under any of these settings, or the type of which it can have
        any.
        """
        values = self.fields[name]
        if isinstance(values, type) or not callable(values):
            return values
        return {value for each in settings for value in values(each)}


def experiment(**declared) -> Callable[[Callable], Experiment]:
    """Declare the function below it as an experiment; see `Experiment` for the names."""
    return lambda run: Experiment(run, **declared)


def keep_claims(table):
    """The rows to judge of a table that holds what is drawn too: those whose `what` is "claim"."""
    return table[table.what == "claim"]


class Source(Mapping):
    """One source: a mapping from the names of its experiments to the experiments, sorted.

    Raises BadParameter for a name that is no source.
    """

    def __init__(self, name: str):
        if name not in names():
            raise unknown("source", name, names())
        self.name = name
        self._package = importlib.import_module(f"replicate.sources.{name}")
        self._presets = importlib.import_module(f"replicate.sources.{name}.presets")

    title = property(lambda self: self._package.TITLE)
    cost = property(lambda self: self._package.COST)
    paper = property(lambda self: self._presets.PAPER)
    presets = property(lambda self: self._presets.PRESETS)

    def __getitem__(self, name: str) -> Experiment:
        if name not in self:
            raise unknown(f"experiment of {self.name}", name, self)
        return _get_experiment(
            importlib.import_module(f"replicate.sources.{self.name}.{name}"), name
        )

    def __contains__(self, name: object) -> bool:
        return name in _modules(self._package)

    def __iter__(self) -> Iterator[str]:
        return iter(_modules(self._package))

    def __len__(self) -> int:
        return len(_modules(self._package))

    def tiny(self, settings):
        """The settings at a size at which every line runs once."""
        return self._presets.tiny(settings)

    def entries(self) -> set[str]:
        """Every entry that some preset or some experiment of its own settings has."""
        declared = [set(experiment.settings or ()) for experiment in self.values()]
        return set().union(*self.presets.values(), *declared)

    def setting(self, entry: str, settings: Mapping[str, object]) -> str:
        """ "the source's", or what stands in for it, such as "stand-in: ResNet-8 on CIFAR-10".

        entry: the name of the entry; settings: the fields of its settings by name, as provenance
        keeps them.
        """
        return self._presets.setting(entry, settings)

    def needs_files(self, entry: str) -> bool:
        """Whether an entry of the presets is a data set of files, or of no experiment yet, and not
        made by a formula.
        """
        users = [each for each in self.values() if entry in each.chosen({entry: None})]
        return not users or any(each.needs_data for each in users)


def names() -> list[str]:
    """The sources, by the stem of their package, notebook and claims file."""
    return sorted(
        module.name for module in pkgutil.iter_modules(replicate.sources.__path__) if module.ispkg
    )


@functools.cache  # a claims file asks thousands of times, and each time the folder was read
def _modules(package: ModuleType) -> tuple[str, ...]:
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    experiments = [
        name for name in names if name not in NOT_EXPERIMENTS and not name.startswith("_")
    ]
    return tuple(sorted(experiments, key=_by_number))


def _by_number(name: str) -> tuple:
    """A key that sorts figure_9 before figure_10."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdecimal() else (name, 0)


def _get_experiment(module: ModuleType, name: str) -> Experiment:
    declared = getattr(module, name, None)
    if not isinstance(declared, Experiment) or inspect.getmodule(declared.run) is not module:
        raise TypeError(f"{module.__name__} must declare an experiment called {name}")
    return declared
