"""What a notebook is told is checked before a kernel starts; what it leaves behind is whole or a part file."""

from types import SimpleNamespace

import nbformat
import pytest

from replicate import notebook, paths
from replicate.errors import BadData, BadParameter, Failure, Killed, Missing
from replicate.sources import sandler2023trajectories as source


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setenv("REPLICATE_DEVICE", "cpu")
    paths.NOTEBOOKS.mkdir()
    return tmp_path


def write(*cells: str, parameters: str = 'preset = "smoke"\noverrides = {}\ndevice = "auto"') -> None:
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    made.cells = [nbformat.v4.new_code_cell(text) for text in (parameters, *cells)]
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, paths.NOTEBOOKS / "someone2020.ipynb")


def executed(**given) -> list[str]:
    about = {"preset": "cpu", "overrides": {"lr": 0.1}, "device": "cpu"} | given
    path = notebook.execute("someone2020", *about.values())
    assert path == paths.BUILD / about["preset"] / "someone2020.ipynb"
    return ["".join(o.get("text", "") for o in c.outputs) for c in nbformat.read(path, 4).cells if "outputs" in c]


def test_parameters_reach_the_notebook():
    write("print(preset, overrides, device)")
    assert executed()[-1] == "cpu {'lr': 0.1} cpu\n"


def test_a_notebook_with_other_parameters_is_refused_before_a_kernel_starts():
    write("print(1)", parameters='preset = "smoke"\nspeed = 3')
    with pytest.raises(BadData, match="must take the parameters preset, overrides, device"):
        executed()
    assert not paths.BUILD.exists() or not list(paths.BUILD.rglob("*.ipynb"))


def test_a_failing_notebook_leaves_its_part_and_no_older_output():
    write("print('fine')")
    executed()
    write("raise ValueError('one thing')")
    with pytest.raises(Failure, match="someone2020 failed: ValueError: one thing; see .*part.ipynb"):
        executed()
    assert [path.name for path in (paths.BUILD / "cpu").iterdir()] == ["someone2020.part.ipynb"]


def test_a_killed_kernel_is_said_to_be_killed():
    write("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(Killed, match="run the same command to go on") as error:
        executed()
    assert error.value.exit_code == 137


def test_refresh_runs_in_place_and_writes_no_times():
    write("print(preset)")
    notebook.refresh("someone2020")
    made = nbformat.read(paths.NOTEBOOKS / "someone2020.ipynb", 4)
    assert made.cells[1].outputs[0].text == "smoke\n" and "execution" not in made.cells[1].metadata


# What it is told.


def test_a_plain_override_goes_to_every_data_set_and_a_dotted_one_to_one():
    found = notebook.overridden(source, "cpu", {"momentum": 0.5, "cifar10.lr": 0.25})
    assert {name: (one.momentum, one.lr) for name, one in found.items()} == {
        "digits": (0.5, 0.02),
        "cifar10": (0.5, 0.25),
    }
    assert source.PRESETS["cpu"]["cifar10"].lr == 0.05


@pytest.mark.parametrize(
    "preset, overrides, line",
    [
        ("smok", {}, "did you mean 'smoke'"),
        (3, {}, "unknown preset '3'"),
        ("cpu", {"cifar10.rate": 1.0}, "unknown setting 'rate'"),
        ("smoke", {"cifar10.lr": 1.0}, "known: digits"),
        ("smoke", {"lr": "0.1"}, "lr: "),
        ("smoke", {"batch": True}, "batch: "),
    ],
)
def test_names_and_values_are_checked(preset, overrides, line):
    with pytest.raises(BadParameter, match=line) as error:
        notebook.settings(source, preset, overrides, "cpu")
    assert "\n" not in str(error.value)


def test_assignments_are_python_literals_or_text():
    found = notebook.parsed(["lr=0.1", "seeds=[0, 1]", "model=mlp", "flip=False", "cifar10.lr = 1e-3"])
    assert found == {"lr": 0.1, "seeds": (0, 1), "model": "mlp", "flip": False, "cifar10.lr": 0.001}


def test_a_data_set_that_is_not_at_hand_is_left_out_unless_asked_for_by_name(monkeypatch, capsys):
    def unreachable(name):
        raise Missing(f"{name} cannot be reached")

    monkeypatch.setattr("replicate.datasets.fetch", unreachable)
    assert list(notebook.settings(source, "cpu", {}, "cpu")) == ["digits"]
    assert capsys.readouterr().err == "going on without cifar10: cifar10 cannot be reached\n"
    with pytest.raises(Missing):
        notebook.settings(source, "cpu", {"cifar10.lr": 0.1}, "cpu")
    assert notebook.missing(source, "cpu") == ["cifar10"]


def test_a_data_set_that_is_only_found_is_left_out_with_the_line_that_says_where_it_goes(folders, capsys):
    found = SimpleNamespace(**vars(source) | {"PRESETS": {"cpu": {"tiny-imagenet-10": source.PAPER}}})
    assert notebook.settings(found, "cpu", {}, "cpu") == {} and notebook.missing(found, "cpu") == ["tiny-imagenet-10"]
    line = capsys.readouterr().err
    assert line.startswith("going on without tiny-imagenet-10: ") and f"not at hand in {folders}" in line
    assert "put it there" in line and line.count("\n") == 1
    with pytest.raises(Missing):
        notebook.settings(found, "cpu", {"tiny-imagenet-10.lr": 0.1}, "cpu")


def test_a_synthetic_set_is_at_hand_and_an_experiment_runs_only_on_what_it_is_meant_for(monkeypatch):
    def runs_over(experiment, settings):
        return list(settings)

    synthetic = SimpleNamespace(
        **vars(source) | {"SYNTHETIC": ("cifar10",), "RUNS_ON": {source.figure_5: ("cifar10",)}}
    )
    monkeypatch.setattr("replicate.datasets.at_hand", lambda name: name == "digits")
    monkeypatch.setattr("replicate.runs.over", runs_over)
    settings = notebook.settings(synthetic, "cpu", {}, "cpu")
    assert list(settings) == ["digits", "cifar10"] and notebook.missing(synthetic, "cpu") == []
    assert notebook.run(source.figure_5, synthetic, settings) == ["cifar10"]
    assert notebook.run(source.last_steps, synthetic, settings) == ["digits", "cifar10"]
    assert notebook.run(source.table_1, synthetic, settings) == ["quadratic"]


def test_deviations_have_a_column_a_data_set_and_are_empty_where_nothing_was_changed():
    table = notebook.deviations(source, source.PRESETS["cpu"])
    assert table.loc["lr"].to_dict() == {"paper": "0.05", "cifar10": "", "digits": "0.02"}
    assert "momentum" not in table.index
