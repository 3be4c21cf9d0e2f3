"""A notebook about some experiments alone: a cell about another one ends with a line that says so.

The cells stay as they are. `NotRun` is raised where an experiment is asked for that was not chosen;
in a notebook it is no failure, neither for JupyterLab nor for papermill or nbval: the line is shown
in place of what the cell would have shown, and the next cell runs.
"""

import sys
from collections.abc import Iterable

from replicate.errors import BadParameter, Failure, unknown
from replicate.sources.protocol import Source


class NotRun(Failure):
    """An experiment of the notebook that was not chosen."""


def choose(source: Source, wanted: object) -> tuple[str, ...]:
    """The names of experiments to run, in the order of the source; all of them if none is named.

    wanted: a list of names, or one text with commas between them, as `papermill -p` hands it over.
    Raises BadParameter on anything else, and on a name that is no experiment, with those there are.
    """
    names = [each.strip() for each in wanted.split(",")] if isinstance(wanted, str) else wanted
    if not isinstance(names, Iterable) or isinstance(names, bytes | dict):
        raise BadParameter(
            f"experiments must be names of experiments of {source.name}, got {wanted!r}; "
            f"known: {', '.join(source)}"
        )
    names = [name for name in names if name != ""]
    for name in names:
        if name not in source:
            raise unknown(f"experiment of {source.name}", str(name), source)
    return tuple(name for name in source if name in names or not names)


def refuse(names: Iterable[str], chosen: Iterable[str]) -> None:
    """Raise NotRun unless one of the names is chosen."""
    names, chosen = list(names), list(chosen)
    if not set(names) & set(chosen):
        raise NotRun(f"{', '.join(names)}: not run; experiments = {', '.join(chosen)}")


def end_cells_in_one_line() -> None:
    """In a notebook, let NotRun end its cell with its line and without a failure, and show of any
    other Failure its line too, in place of the way to it; elsewhere nothing.

    IPython asks a handler what to show of an exception, and tells of a cell that is over with its
    result, before that goes to whoever ran the cell.
    """
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    shell.set_custom_exc((Failure,), _show_line)
    if _forgive not in shell.events.callbacks["post_run_cell"]:
        shell.events.register("post_run_cell", _forgive)


def _show_line(shell, kind, value, traceback, tb_offset=None) -> None:
    if isinstance(value, NotRun):
        print(value)
    else:
        value._render_traceback_ = lambda: [f"{kind.__name__}: {value}"]
        shell.showtraceback((kind, value, traceback))


def _forgive(result) -> None:
    if isinstance(result.error_in_exec, NotRun):
        result.error_in_exec = None
