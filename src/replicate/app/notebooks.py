"""What a notebook shows of a source, and how notebooks are run without a browser."""

import base64
import inspect
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import pandas as pd

from replicate import claims, paths, runs
from replicate.app import answers, registry, selection, verdicts
from replicate.app import overrides as given
from replicate.errors import BadData, Failure, Killed

T = TypeVar("T")
BY_ROUNDING = 1e-6  # errors of exact statements stay below, and of single precision
WIDGET = "application/vnd.jupyter.widget-view+json"
STORED_COLOURS = 128  # of a stored picture; lines, letters and their soft edges need no more
PARAMETERS = ("preset", "overrides", "device", "experiments")


class Study:
    """One source at one preset, as a notebook works through it: run an experiment, see its table,
    judge at the end.

    settings: entry -> Settings, for the data sets at hand. chosen: the names of the experiments that
    are run; a cell about another one ends with one line. Raises BadParameter, Missing or
    Unavailable on parameters that cannot be.
    """

    def __init__(
        self,
        source: str,
        preset: str,
        overrides: Mapping[str, object],
        device: str = "auto",
        experiments: Sequence[str] | str = (),
    ):
        """experiments: names, or one text with commas between them; without any, all are run."""
        selection.end_cells_in_one_line()
        self.source = registry.source(source)
        self.chosen = selection.choose(self.source, experiments)
        self.preset = preset
        self.settings = given.settings(self.source, preset, overrides, device)

    def answer(self):
        """Is it true? The source's answer, with its numbers from data/results/, as a cell shows Markdown."""
        from IPython.display import Markdown

        said = answers.answer(self.source)
        return Markdown(said.in_markdown() if said else "Nothing is recorded yet.")

    def run(self, name: str) -> pd.DataFrame:
        """The rows of one experiment, on the data sets that it is meant for. Raises NotRun, with
        which a notebook's cell ends in one line, if it was not chosen.
        """
        return self.run_together(name)[0]

    def run_together(self, *names: str) -> list[pd.DataFrame]:
        """The rows of several experiments that are shown in one figure: of each of them if one was
        chosen. Raises NotRun if none was.
        """
        experiments = [self.source[name] for name in names]
        selection.refuse(names, self.chosen)
        return [runs.over(each, each.chosen(self.settings)) for each in experiments]

    def draw(
        self, names: str | Sequence[str], *plots: Callable, beside: Sequence[str] = ()
    ) -> None:
        """The figures of some experiments: from what is recorded, in full size, and below it from the
        run at hand, small, each under a line that says which data, preset and seeds they show. Where
        nothing is recorded the run alone, in full size.

        plots: called with the tables of `names`, then of those `beside`. Raises NotRun, below what is
        recorded, if none of `names` was chosen.
        """
        from replicate.plots.style import shrink_figures

        names = [names] if isinstance(names, str) else list(names)
        recorded = [registry.read_largest(self.source, each, self.preset) for each in names]
        is_recorded = not all(table.empty for table in recorded)
        if is_recorded:
            more = [registry.read_largest(self.source, each, self.preset) for each in beside]
            presets = {table.attrs.get("preset") for table in recorded} - {None}
            print(f"Recorded at preset {' and '.join(sorted(presets))}: {tell_seeds(recorded)}")
            _draw(plots, [*recorded, *more])
        tables = self.run_together(*names)
        print(f"This run, at preset {self.preset}: {tell_seeds(tables)}")
        with shrink_figures() if is_recorded else nullcontext():
            _draw(plots, [*tables, *map(self.run_beside, beside)])

    def run_beside(self, name: str) -> pd.DataFrame:
        """The rows of an experiment that a cell about another one needs too, chosen or not."""
        return runs.over(self.source[name], self.source[name].chosen(self.settings))

    def read_or_run(self, name: str) -> pd.DataFrame:
        """The recorded rows of an experiment, or, where nothing is recorded, those of the run at hand."""
        recorded = self.read_recorded(name)
        return self.run_beside(name) if recorded.empty else recorded

    def read_judged(self, name: str) -> pd.DataFrame:
        """The same rows as they are judged, each data set for itself."""
        return registry.derive(self.source[name], self.read_or_run(name))

    def read_recorded(self, *names: str) -> pd.DataFrame:
        """The recorded rows of the largest preset from this one on; empty if nothing is recorded."""
        tables = [registry.read_largest(self.source, name, self.preset) for name in names]
        return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)

    def deviations(self) -> pd.DataFrame:
        """What the settings change in the paper's: one row per field, one column per entry, empty
        where as printed. An entry with settings of its own is held against those of preset paper,
        and left out where that has none.
        """
        papers = {entry: self._paper_of(entry) for entry in self.settings}
        tables = [
            runs.deviations(self.settings[entry], paper).assign(dataset=entry)
            for entry, paper in papers.items()
            if paper is not None
        ]
        table = (
            pd.concat(tables)
            .astype(str)
            .pivot(index=["field", "paper"], columns="dataset", values="here")
        )
        return table.fillna("").reset_index(level="paper")

    def _paper_of(self, entry: str):
        """The paper's settings of an entry's kind, None if no paper has them."""
        paper = self.source.paper
        if isinstance(self.settings[entry], type(paper)):
            return paper
        return self.source.presets["paper"].get(entry)

    def verdicts(self) -> pd.DataFrame:
        """Every row of the claims file about a chosen experiment, judged on what has run at these
        settings; the other rows of a family count in its p values as ever.
        """
        return self._of_chosen(verdicts.of_runs(self.source, self.settings, self.preset))

    def read_larger(self) -> pd.DataFrame:
        """Recorded rows of larger presets about a chosen experiment."""
        return self._of_chosen(verdicts.read_larger(self.source, self.preset))

    def _of_chosen(self, rows: pd.DataFrame) -> pd.DataFrame:
        claim_list = registry.claims_of(self.source)
        ids = {claim.id for claim in claim_list if set(claim.experiments) & set(self.chosen)}
        return rows if len(self.chosen) == len(self.source) else rows[rows.claim.isin(ids)]


def tell_seeds(tables: Iterable[pd.DataFrame]) -> str:
    """The data sets of some tables, each with its number of seeds, such as "digits, 8 seeds"."""
    seeds: dict[str, set] = {}
    for table in tables:
        for name, rows in () if table.empty else table.groupby("dataset", sort=False):
            seeds.setdefault(name, set()).update(rows.seed.dropna() if "seed" in rows else ())
    said = (name + (f", {len(each)} seeds" if each else "") for name, each in seeds.items())
    return "; ".join(said) or "nothing yet"


def _draw(plots: Iterable[Callable], tables: list[pd.DataFrame]) -> None:
    from matplotlib import pyplot

    for plot in plots:
        plot(*tables)
    pyplot.show()


def show_primary(rows: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Primary rows with an interval, in the columns that fit a page."""
    primary = claims.primary_rows(rows)
    primary = primary[~primary.kind.isin(claims.WITHOUT_INTERVAL)]
    return primary[[*more, *verdicts.SHORT_COLUMNS]].round(4)


def show_code(*functions: Callable):
    """The text of functions, as a cell shows Markdown: a method is read where its figures are."""
    from IPython.display import Markdown

    code = "\n\n".join(inspect.getsource(each).strip() for each in functions)
    return Markdown(f"```python\n{code}\n```")


def show_rounded(rows: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """The same rows with three significant digits, or as many as are asked for, and 0 for what
    differs from it by rounding alone: another processor shows the same, so that nbval compares it.
    """

    def shorten(value: float) -> float:
        return 0.0 if abs(value) < BY_ROUNDING else float(f"{value:.{digits}g}")

    return rows.apply(lambda column: column.map(shorten) if column.dtype.kind == "f" else column)


def side_by_side(run: Callable[[str], T], names: Sequence[str]) -> Iterator[T]:
    """run(name) for each name, as many notebooks at once as runs go; results in the order of names.

    Each kernel is a process of its own, so threads are enough to wait for them.
    """
    with ThreadPoolExecutor(min(runs.jobs(), len(names))) as pool:
        yield from pool.map(run, names)


def execute(name: str, preset: str, overrides: Mapping[str, object], device: str) -> Path:
    """Run a source's notebook into `build/<preset>/<source>.ipynb`; the path.

    An older output is removed first and the new one appears only when it is whole; what an
    unsuccessful run got to stays beside it as `.part.ipynb`. Raises Killed if the kernel died, else
    the failure that the notebook raised.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    start, output = paths.NOTEBOOKS / f"{name}.ipynb", paths.BUILD / preset / f"{name}.ipynb"
    given = {"preset": preset, "overrides": dict(overrides), "device": device}
    if extra := set(PARAMETERS) ^ set(papermill.inspect_notebook(start)):
        raise BadData(
            f"{start.name} must take the parameters {', '.join(PARAMETERS)}; differs in {sorted(extra)}"
        )
    partial = output.with_suffix(".part.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            start, partial, given, kernel_name="python3", resources=_in_folder(start), progress_bar=False,
            start_timeout=180, config=_kernel_config(),
        )  # fmt: skip
    except DeadKernelError:
        raise Killed(
            f"the process of notebook {name} died (memory?); run the same command to go on; see {partial}"
        ) from None
    except (papermill.PapermillExecutionError, CellTimeoutError) as error:
        line = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}".splitlines()[
            0
        ]
        raise Failure(f"notebook {name} failed: {line}; see {partial}") from None
    paths.write_atomic(output, _write(nbformat.read(partial, as_version=4)))
    partial.unlink()
    return output


def drop_widgets(notebook: dict) -> dict:
    """The notebook without widgets, which need the kernel that made them; their pictures stay."""
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    return notebook


def reduce_colours(notebook: dict) -> dict:
    """The notebook with its PNG pictures as palettes of STORED_COLOURS colours: a third of the bytes."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                output["data"]["image/png"] = _reduce(picture)
    return notebook


def _reduce(picture: str) -> str:
    """A PNG in base64, as a palette; as it was where that is shorter."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").quantize(STORED_COLOURS, dither=Image.Dither.NONE).save(
            stream, "PNG", optimize=True
        )
    return min(base64.b64encode(stream.getvalue()).decode(), picture, key=len)


def _write(notebook: dict) -> bytes:
    """As it is stored: without widgets, pictures small."""
    import nbformat

    notebook = reduce_colours(drop_widgets(notebook))
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def refresh(name: str) -> None:
    """Run a source's notebook in place at its own parameters and keep the outputs: nbval's
    reference.
    """
    import nbformat
    from nbclient import NotebookClient

    path = paths.NOTEBOOKS / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    os.environ["TQDM_DISABLE"] = "1"
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources=_in_folder(path),
        config=_kernel_config(),
    ).execute()
    paths.write_atomic(path, _write(notebook))


def _in_folder(notebook: Path) -> dict:
    """Where the kernel runs: beside the notebook as in JupyterLab, or where everything is written.

    Not papermill's `cwd`, which moves this whole process there, and with it its other threads.
    """
    return {"metadata": {"path": str(notebook.parent if paths.IS_CHECKOUT else paths.WORK)}}


def _kernel_config():
    """Kernels talk encrypted where they can; older ones ignore it. Silences ipykernel's warning
    about plain TCP.
    """
    from traitlets.config import Config

    config = Config()
    for manager in ("KernelManager", "AsyncKernelManager"):
        config[manager].transport_encryption = "auto"
    return config
