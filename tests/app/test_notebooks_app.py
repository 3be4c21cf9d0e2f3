"""What a notebook leaves behind is whole or a part file; what it works through is one source at one
preset.
"""

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image
from records import GPU, SOURCE, figure_5

from replicate import claims, paths, runs
from replicate.app import notebooks, registry, verdicts
from replicate.app.notebooks import Study, show_primary
from replicate.app.selection import NotRun
from replicate.errors import BadData, BadParameter, Failure, Killed
from replicate.plots.style import SHARPEST, SMALL, grid


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    paths.NOTEBOOKS.mkdir()
    return tmp_path


def write(
    *cells: str,
    parameters: str = 'preset = "smoke"\noverrides = {}\ndevice = "auto"\nexperiments = ()',
    name: str = "someone2020",
) -> None:
    made = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
    )
    made.cells = [nbformat.v4.new_code_cell(text) for text in (parameters, *cells)]
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, paths.NOTEBOOKS / f"{name}.ipynb")


def executed(**given) -> list[str]:
    about = {"preset": "cpu", "overrides": {"lr": 0.1}, "device": "cpu"} | given
    path = notebooks.execute("someone2020", *about.values())
    assert path == paths.BUILD / about["preset"] / "someone2020.ipynb"
    return [
        "".join(o.get("text", "") for o in c.outputs)
        for c in nbformat.read(path, 4).cells
        if "outputs" in c
    ]


def test_parameters_reach_the_notebook():
    write("print(preset, overrides, device)")
    assert executed()[-1] == "cpu {'lr': 0.1} cpu\n"


def test_a_notebook_with_other_parameters_is_refused_before_a_kernel_starts():
    write("print(1)", parameters='preset = "smoke"\nspeed = 3')
    with pytest.raises(
        BadData, match="must take the parameters preset, overrides, device, experiments"
    ):
        executed()
    assert not paths.BUILD.exists() or not list(paths.BUILD.rglob("*.ipynb"))


def test_a_failing_notebook_leaves_its_part_and_no_older_output():
    write("print('fine')")
    executed()
    write("raise ValueError('one thing')")
    with pytest.raises(
        Failure, match="someone2020 failed: ValueError: one thing; see .*part.ipynb"
    ):
        executed()
    assert [path.name for path in (paths.BUILD / "cpu").iterdir()] == ["someone2020.part.ipynb"]


def test_a_killed_kernel_is_said_to_be_killed():
    write("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(Killed, match="run the same command to go on") as error:
        executed()
    assert error.value.exit_code == 137


def run_at_cpu(name: str):
    return notebooks.execute(name, "cpu", {}, "cpu")


def test_notebooks_run_side_by_side_and_come_in_their_order(tmp_path, monkeypatch):
    """Each waits for a file that the other one writes."""
    monkeypatch.setenv("REPLICATE_JOBS", "2")
    names = ("first2020", "second2021")
    for name, other in (names, reversed(names)):
        meet = f"import pathlib, time\nfolder = pathlib.Path({str(tmp_path)!r})\n(folder / {name!r}).touch()\n"
        write(f"{meet}while not (folder / {other!r}).exists():\n    time.sleep(0.01)", name=name)
    before = Path.cwd()
    paths_of = list(notebooks.side_by_side(run_at_cpu, names))
    assert Path.cwd() == before
    assert [path.stem for path in paths_of] == list(names) and all(p.exists() for p in paths_of)


def test_a_kernel_runs_beside_its_notebook_and_this_process_stays_where_it_was(tmp_path):
    write("import os", "print(os.getcwd())")
    before = Path.cwd()
    folder = paths.NOTEBOOKS if paths.IS_CHECKOUT else paths.WORK
    assert executed()[-1].strip() == str(folder) and Path.cwd() == before


def test_a_notebook_that_fails_beside_another_is_named(monkeypatch):
    monkeypatch.setenv("REPLICATE_JOBS", "2")
    write("raise ValueError('one thing')", name="first2020")
    write("print(1)", name="second2021")
    with pytest.raises(Failure, match="first2020 failed: ValueError: one thing"):
        list(notebooks.side_by_side(run_at_cpu, ("first2020", "second2021")))
    assert (paths.BUILD / "cpu" / "second2021.ipynb").exists()


SLIDER = "import ipywidgets\nipywidgets.IntSlider()"
WIDE, HIGH, RED, WHITE = 40, 30, (200, 30, 40), (255, 255, 255)


def encode(image: Image.Image) -> str:
    """A PNG of eight bits a channel, not pressed, in base64."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=0)
    return base64.b64encode(stream.getvalue()).decode()


def draw() -> Image.Image:
    """White, with a red corner."""
    image = Image.new("RGB", (WIDE, HIGH), WHITE)
    image.paste(RED, (0, 0, 10, 10))
    return image


DRAWN = encode(draw())
PICTURE = (
    "from IPython.display import display\n"
    f"display({{'image/png': '{DRAWN}', 'text/plain': 'a picture'}}, raw=True)"
)


def stored_outputs(path: Path) -> list[dict]:
    return [
        output.get("data", {})
        for cell in nbformat.read(path, 4).cells
        for output in cell["outputs"]
    ]


def decode(picture: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")


@pytest.mark.parametrize("how", ["executed", "refreshed"])
def test_what_is_stored_has_no_widget_and_all_else(how):
    """A widget is nothing without the kernel that made it."""
    write(SLIDER, PICTURE)
    path = paths.NOTEBOOKS / "someone2020.ipynb"
    if how == "executed":
        path = notebooks.execute("someone2020", "cpu", {}, "cpu")
    else:
        notebooks.refresh("someone2020")
    of_slider, of_picture = stored_outputs(path)
    assert set(of_slider) == {"text/plain"}
    stored = of_picture.pop("image/png")
    assert of_picture == {"text/plain": "a picture"}
    assert len(stored) < len(DRAWN) / 5
    assert decode(stored).tobytes() == draw().tobytes()
    assert "widgets" not in nbformat.read(path, 4).metadata


def test_refresh_runs_in_place_and_writes_no_times():
    write("print(preset)")
    notebooks.refresh("someone2020")
    made = nbformat.read(paths.NOTEBOOKS / "someone2020.ipynb", 4)
    assert made.cells[1].outputs[0].text == "smoke\n" and "execution" not in made.cells[1].metadata


# What a notebook works through.


@pytest.fixture
def study(monkeypatch):
    """The trajectories at preset cpu, where figure_5 has run on digits alone."""
    monkeypatch.setattr("replicate.datasets.at_hand", lambda name: True)

    def table(experiment, settings):
        if experiment.name != "figure_5":
            return pd.DataFrame()
        made = figure_5(seeds=24, branches=2, dataset="digits").assign(device="here")
        made.attrs["settings"] = {"k1": {**vars(settings["digits"])}}
        return made

    monkeypatch.setattr(runs, "over", table)
    monkeypatch.setattr(runs, "load_cached", table)
    return Study(SOURCE, "cpu", {"digits.lr": 0.5}, "cpu")


def test_a_study_has_the_settings_it_was_told(study):
    assert list(study.settings) == list(registry.source(SOURCE).presets["cpu"])
    assert study.settings["digits"].lr == 0.5


def test_a_study_runs_on_the_data_sets_that_are_meant(study, monkeypatch):
    monkeypatch.setattr(
        runs, "over", lambda experiment, settings: pd.DataFrame({"on": list(settings)})
    )
    assert study.run("figure_5").on.tolist() == ["digits", "cifar10"]
    assert study.run("table_1").on.tolist() == ["quadratic"]


def test_an_unknown_experiment_is_met_with_the_nearest(study):
    with pytest.raises(BadParameter, match="did you mean 'figure_9'"):
        study.run("figure_99")


def test_a_study_shows_the_largest_record(study, monkeypatch):
    held = {"gpu": figure_5(), "paper": pd.DataFrame()}
    monkeypatch.setattr(
        runs, "load_recorded", lambda experiment, preset: held.get(preset, pd.DataFrame())
    )
    assert set(study.read_recorded("figure_5").device) == {GPU}
    assert len(study.read_recorded("figure_5", "last_steps")) == 2 * len(figure_5())
    held.clear()
    assert study.read_recorded("figure_5").empty


def recorded_at(monkeypatch, tables: dict[str, pd.DataFrame]) -> None:
    """Each experiment's recorded table at preset night; of the others nothing is recorded."""

    def load(experiment, preset):
        table = tables.get(experiment.name) if preset == "night" else None
        return pd.DataFrame() if table is None else table.copy()

    monkeypatch.setattr(runs, "load_recorded", load)


def draw_noting(study, names, **about) -> list[tuple]:
    """What a plot is called with: the processors of its tables, and the width of a figure then."""
    noted = []

    def plot(*tables):
        (ax,) = grid(1, 1, (4, 3))[1][0]
        noted.append(([set(table.get("device", ())) for table in tables], ax.figure.bbox.width))

    study.draw(names, plot, **about)
    plt.close("all")
    return noted


def test_a_figure_shows_what_is_recorded_and_then_small_the_run(study, monkeypatch, capsys):
    recorded_at(monkeypatch, {"figure_5": figure_5(), "last_steps": figure_5()})
    ((evidence, wide), (run, narrow)) = draw_noting(study, "figure_5", beside=["last_steps"])
    assert evidence == [{GPU}, {GPU}] and run == [{"here"}, set()]  # last_steps has not run
    assert narrow == pytest.approx(SMALL * wide) and wide > 2 * narrow
    seeds = figure_5().seed.nunique()
    assert capsys.readouterr().out.splitlines() == [
        f"Recorded at preset night: cifar10, {seeds} seeds",
        "This run, at preset cpu: digits, 24 seeds",
    ]


def test_what_is_not_recorded_is_drawn_of_the_run_in_full_size(study, monkeypatch, capsys):
    recorded_at(monkeypatch, {})
    ((run, width),) = draw_noting(study, ["figure_5"])
    assert run == [{"here"}] and width == pytest.approx(4 * SHARPEST)
    assert "Recorded" not in capsys.readouterr().out


def test_an_experiment_that_was_not_chosen_still_shows_its_evidence(study, monkeypatch, capsys):
    recorded_at(monkeypatch, {"figure_5": figure_5()})
    study.chosen = ("last_steps",)
    noted = []
    with pytest.raises(NotRun, match="figure_5: not run; experiments = last_steps"):
        study.draw("figure_5", lambda table: noted.append(set(table.device)))
    assert noted == [{GPU}] and capsys.readouterr().out.startswith("Recorded at preset night")


def test_numbers_below_a_figure_are_recorded_or_else_those_of_the_run(study, monkeypatch):
    recorded_at(monkeypatch, {"last_steps": figure_5()})
    assert set(study.read_or_run("last_steps").device) == {GPU}
    assert set(study.read_or_run("figure_5").device) == {"here"}


def test_a_study_judges_the_whole_claims_file_on_its_runs(study):
    rows = study.verdicts()
    assert set(rows.claim) == {claim.id for claim in registry.claims_of(registry.source(SOURCE))}
    row = rows[(rows.claim == "TRAJ-21.loss") & (rows.role == "primary")].iloc[0]
    assert (row.verdict, row.case, row.device, row.n) == (
        "reproduced",
        "digits swa k=1000",
        "here",
        24,
    )
    gone = rows[rows.claim == "TRAJ-21.top1"].iloc[0]
    assert (gone.verdict, gone.reason) == ("not tested", "not run at preset cpu")


def test_deviations_have_a_column_a_data_set(study):
    table = study.deviations()
    rates = {"paper": "0.05", "cifar10": "", "digits": "0.5", "quadratic": ""}
    assert set(table) == {"paper", *study.settings}
    assert rates.items() <= table.loc["lr"].to_dict().items()
    assert "momentum" not in table.index


def test_shown_are_primary_rows_with_an_interval(study):
    rows = study.verdicts()
    table = show_primary(rows, "preset")
    assert list(table.columns) == ["preset", *verdicts.SHORT_COLUMNS]
    assert set(table.claim) <= {
        row.id for row in registry.claims_of(registry.source(SOURCE)) if row.has_interval
    }
    assert "TRAJ-21.loss" in set(table.claim) and not table.claim.duplicated().any()
    first = claims.primary_rows(rows).set_index("claim").loc["TRAJ-21.loss"]
    assert table.set_index("claim").value["TRAJ-21.loss"] == np.round(first.value, 4)


def test_deviations_of_a_kind_of_its_own_are_from_preset_paper_s_entry(monkeypatch):
    monkeypatch.setattr("replicate.datasets.at_hand", lambda name: True)
    study = Study("zhang2019lookahead", "cpu", {}, "auto")
    table = study.deviations()
    assert {"digits", "ptb", "multi30k"} <= set(table)
    assert table.loc["tokens"].to_dict().items() >= {"paper": "0", "ptb": "30000"}.items()
    assert table.loc["hidden", "paper"] == "1150" and table.loc["hidden", "ptb"] == "64"
    assert "nonmonotone" not in table.index
