"""One figure of a notebook alone: what was chosen runs, every other cell ends in one line, and a
name that is no experiment is refused in one.
"""

import sys

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from records import SOURCE

from replicate import runs
from replicate.app import registry, selection, verdicts
from replicate.app.notebooks import Study
from replicate.errors import BadParameter
from replicate.sources.protocol import names

LOOKAHEAD = registry.source("zhang2019lookahead")
CHOSEN = ("figure_5", "last_steps")


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The experiments that were run, by name, in their order; none of them takes time."""
    asked = []

    def over(experiment, settings):
        asked.append(experiment.name)
        return pd.DataFrame({"of": [experiment.name]})

    monkeypatch.setattr(runs, "over", over)
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    return asked


@pytest.fixture
def shell(monkeypatch):
    """A notebook's shell in this process, whose module does not stay in the place of the main one:
    there spawned processes look for what to run.
    """
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    shell = InteractiveShell.instance()
    yield shell
    shell.reset()
    InteractiveShell.clear_instance()


def study(experiments=CHOSEN) -> Study:
    return Study(SOURCE, "smoke", {}, "cpu", experiments)


@pytest.mark.parametrize(
    "wanted, chosen",
    [
        ((), tuple(LOOKAHEAD)),
        ([], tuple(LOOKAHEAD)),
        ("", tuple(LOOKAHEAD)),
        ("tables", ("tables",)),
        (" tables,averages", ("averages", "tables")),
        (["tables", "averages", "tables"], ("averages", "tables")),
        ({"tables"}, ("tables",)),
    ],
)
def test_names_come_as_a_list_or_as_one_text(wanted, chosen):
    """As a cell, `papermill -y` and `papermill -p` have them; nothing stands for everything."""
    assert selection.choose(LOOKAHEAD, wanted) == chosen


@pytest.mark.parametrize(
    "wanted", ["tabels", ["tables", "tabels"], ("tables", 7), 7, None, b"tables", {"tables": 1}]
)
def test_what_is_no_experiment_is_refused_in_one_line_that_lists_them(wanted):
    with pytest.raises(BadParameter) as refused:
        selection.choose(LOOKAHEAD, wanted)
    line = str(refused.value)
    assert len(line.splitlines()) == 1 and "zhang2019lookahead" in line
    assert all(name in line for name in LOOKAHEAD)


def test_what_was_not_chosen_is_not_run_and_says_so(asked):
    with pytest.raises(selection.NotRun) as told:
        study().run("figure_9")
    assert str(told.value) == "figure_9: not run; experiments = figure_5, last_steps"
    assert asked == []
    assert study().run("last_steps").of.tolist() == ["last_steps"] == asked


def test_what_is_drawn_together_runs_if_one_of_it_was_chosen(asked):
    tables = study().run_together("figure_9", "figure_5")
    assert [table.of[0] for table in tables] == ["figure_9", "figure_5"] == asked
    with pytest.raises(selection.NotRun, match="figure_9, figure_11: not run"):
        study().run_together("figure_9", "figure_11")
    assert study().run_beside("figure_11").of[0] == "figure_11" == asked[-1] and len(asked) == 3


def test_verdicts_are_those_of_what_was_chosen(monkeypatch):
    source = registry.source(SOURCE)
    of_source = registry.claims_of(source)
    every = pd.DataFrame({"claim": [claim.id for claim in of_source], "verdict": "reproduced"})
    monkeypatch.setattr(verdicts, "of_runs", lambda *arguments: every)
    monkeypatch.setattr(verdicts, "read_larger", lambda *arguments: every)
    wanted = [
        claim.id for claim in of_source if set(claim.experiments) & {"figure_5", "last_steps"}
    ]
    assert 0 < len(wanted) < len(every)
    assert study().verdicts().claim.tolist() == wanted == study().read_larger().claim.tolist()
    assert study(()).verdicts().claim.tolist() == every.claim.tolist()


def test_a_cell_about_something_else_ends_with_its_line_and_the_notebook_goes_on(
    asked, shell, capsys
):
    shell.user_ns["study"] = study()
    skipped = shell.run_cell("study.run('figure_9')\nafterwards = 1")
    assert skipped.success and "afterwards" not in shell.user_ns
    printed = capsys.readouterr()
    assert printed.out == "figure_9: not run; experiments = figure_5, last_steps\n"
    assert printed.err == ""
    assert shell.run_cell("table = study.run('figure_5')").success and asked == ["figure_5"]


def test_other_failures_stop_a_notebook_with_their_line(asked, shell, capsys):
    shell.user_ns["study"] = study()
    assert not shell.run_cell("study.run('figure_99')").success
    shown = capsys.readouterr().out.strip()
    assert shown.startswith("BadParameter: unknown experiment") and len(shown.splitlines()) == 1
    assert not shell.run_cell("1 / 0").success
    shown = capsys.readouterr().out
    assert "division by zero" in shown and len(shown.splitlines()) > 3  # with the way to it


def test_a_shell_is_told_once(shell):
    study(), study()
    assert shell.events.callbacks["post_run_cell"].count(selection._forgive) == 1


def test_outside_a_notebook_nothing_is_changed(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython")
    selection.end_cells_in_one_line()
    assert "IPython" not in sys.modules


def test_the_default_of_every_notebook_is_everything():
    assert all(
        selection.choose(registry.source(name), ()) == tuple(registry.source(name))
        for name in names()
    )
