"""What others wrote is data: whatever it says, it is refused in one line with its exit code, and what
it wanted to run has not run.
"""

import json
import os
import shutil
import sys

import nbformat
import papermill
import pytest
from hostile import HEADERS, code, pickles, sealed

from replicate import claims, paths, runs
from replicate.app import cli, notebooks, overrides, registry
from replicate.datasets import cifar10
from replicate.datasets.files import File
from replicate.errors import BadData, BadParameter, Failure
from replicate.runs import tables
from replicate.training import Checkpoints, load_tensor_file

KIND = "hostile inputs refused, canary absent"
SOURCE = "zhang2019lookahead"
PICKLES = list(pickles(paths.ROOT))
CODE = list(code(paths.ROOT))


@pytest.fixture
def canary(tmp_path):
    """A path that nothing may ever exist at."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "what was read has run"


def refused(call, *kinds) -> str:
    with pytest.raises(Failure) as caught:
        call()
    line = str(caught.value)
    assert isinstance(caught.value, kinds), repr(caught.value)
    assert len(line.splitlines()) == 1 and "\x1b" not in line, line
    return line


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Bytes.


READERS = {
    "checkpoint": load_tensor_file,
    "table": tables.read_table,
    "provenance": tables.provenance_of,
    "some columns": lambda path: tables.read_columns(path, ["x"]),
    "checksum": tables.checksum_of,
    "export": runs.read_export,
    "claims": lambda path: claims.load(path.parent, path.stem),
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("reader", READERS)
def test_a_pickle_in_the_place_of_a_file_is_not_opened(tmp_path, canary, reader, name):
    path = put(tmp_path / "x.toml", pickles(canary)[name])
    assert path.name in refused(lambda: READERS[reader](path), BadData)


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_with_the_checksum_of_a_batch_is_not_opened(tmp_path, canary, name):
    content = pickles(canary)[name]
    file = File("cifar-10-batches-bin/data_batch_1.bin", len(content), "")
    pair = [(file, content), (file, content)]
    assert file.path in refused(lambda: cifar10.DATASET.decode(iter(pair)), BadData)


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_with_the_checksum_of_a_checkpoint_is_not_opened(tmp_path, canary, name):
    path = put(tmp_path / "step-000000007.ckpt", sealed(pickles(canary)[name]))
    assert str(path) in refused(lambda: load_tensor_file(path), BadData)


@pytest.mark.parametrize("name", HEADERS)
def test_a_checkpoint_with_its_checksum_and_a_false_header_is_refused(tmp_path, canary, name):
    path = put(tmp_path / "step-000000007.ckpt", HEADERS[name])
    assert str(path) in refused(lambda: load_tensor_file(path), BadData)


@pytest.mark.parametrize("name", PICKLES)
def test_a_run_goes_on_without_a_checkpoint_that_is_a_pickle(tmp_path, canary, capsys, name):
    path = put(tmp_path / "step-000000007.ckpt", pickles(canary)[name])
    assert Checkpoints(tmp_path, "run").newest() is None
    assert str(path) in capsys.readouterr().err and path.exists()


# Texts.


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("place", ["value", "name", "entry", "preset"])
def test_a_text_in_the_place_of_a_parameter_is_not_run(canary, place, name):
    text = code(canary)[name]
    given = {
        "value": ("cpu", [f"steps={text}"]),
        "name": ("cpu", [f"{text.replace('=', '')}=1"]),
        "entry": ("cpu", [f"{text.replace('=', '')}.steps=1"]),
        "preset": (text, []),
    }
    preset, assignments = given[place]
    source = registry.source(SOURCE)
    assert refused(
        lambda: overrides.overridden(source, preset, overrides.parse(assignments)), BadParameter
    )


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("place", ["preset", "overrides", "a value", "a name", "device"])
def test_a_notebook_run_by_bare_papermill_refuses_what_it_is_told(canary, place, name, monkeypatch):
    """What papermill puts into the notebook's cell arrives as it is at `Study`."""
    monkeypatch.setenv("REPLICATE_DEVICE", "auto")
    text = code(canary)[name]
    told = {"preset": "smoke", "overrides": {}, "device": "cpu"}
    told |= {
        "preset": {"preset": text},
        "overrides": {"overrides": text},
        "a value": {"overrides": {"steps": text}},
        "a name": {"overrides": {text: 1}},
        "device": {"device": text or "none"},
    }[place]
    assert refused(lambda: notebooks.Study(SOURCE, **told), BadParameter)


@pytest.mark.parametrize("name", [name for name in CODE if name not in ("NUL", "surrogate")])
@pytest.mark.parametrize("words", [("run", 1), ("run", SOURCE, 1), ("verdicts", 1), ("data", "verify", 1)],
                         ids=lambda words: " ".join(map(str, words)))  # fmt: skip
def test_a_text_in_the_place_of_a_name_is_one_line(canary, monkeypatch, capfd, words, name):
    text = code(canary)[name]
    said = [text if word == 1 else word for word in words]
    monkeypatch.setattr(sys, "argv", ["replicate", *said])
    code_given, lines = cli.main(), capfd.readouterr().err.splitlines()
    assert code_given == 64 and len(lines) == 1, lines


FIELDS = ("id", "experiment", "origin", "kind", "needs")  # each is one of some words
HONEST = {
    ("surrogate", field) for field in FIELDS
} | {  # no text of TOML; or what the field may say
    ("nothing", "origin"),
    ("nothing", "experiment"),
    ("module", "id"),
}
WORDS = [(name, field) for name in CODE for field in FIELDS if (name, field) not in HONEST]


@pytest.mark.parametrize("name, field", WORDS)
def test_a_text_in_the_place_of_a_word_of_a_claim_is_refused(tmp_path, canary, name, field):
    text = code(canary)[name]
    row = {"id": "A-1", "where": "Table 1", "statement": "x", "kind": "exact", "unit": "1",
           "needs": "smoke", "family": "Table 1", "at_least": 0}  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in (row | {field: text}).items()]
    put(tmp_path / f"{SOURCE}.toml", ("[[claim]]\n" + "\n".join(lines)).encode())
    source = registry.source(SOURCE)
    assert f"{SOURCE}.toml" in refused(
        lambda: claims.check(
            claims.load(tmp_path, SOURCE), f"{SOURCE}.toml", source, source.presets
        ),
        BadData,
    )


# Notebooks.


def test_a_notebook_runs_on_the_kernel_of_this_environment_whatever_it_names(
    tmp_path, canary, monkeypatch
):
    """Its kernel is one that the machine has, and that would run the canary."""
    folder = tmp_path / "share" / "jupyter" / "kernels" / "evil"
    put(folder / "kernel.json", json.dumps({
        "argv": ["/bin/sh", "-c", f"touch {canary}"], "display_name": "evil", "language": "python",
    }).encode())  # fmt: skip
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "evil", "display_name": "evil", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell('preset = "smoke"\noverrides = {}\ndevice = "auto"\nexperiments = ()',
                                                metadata={"tags": ["parameters"]})]  # fmt: skip
    nbformat.write(notebook, tmp_path / "x.ipynb")
    kernels = []

    def execute(nb, output, *args, kernel_name, **named):
        kernels.append(kernel_name)
        shutil.copy(nb, output)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    notebooks.execute("x", "smoke", {}, "auto")
    monkeypatch.setattr(
        "nbclient.NotebookClient.execute", lambda self: kernels.append(self.kernel_name)
    )
    notebooks.refresh("x")
    assert kernels == ["python3", "python3"]
    from jupyter_client.kernelspec import KernelSpecManager

    assert KernelSpecManager().get_kernel_spec("evil").argv[0] == "/bin/sh"  # it could have run
    assert os.environ["JUPYTER_PATH"]


def test_the_attacks_work_on_a_reader_that_opens_them(tmp_path):
    """Without this a canary that nothing can make would prove nothing."""
    import pickle

    path = tmp_path / "sung"
    for name in ("pickle 0", "pickle 5", "pickle of code"):
        pickle.loads(pickles(path)[name])
        assert path.exists(), name
        path.unlink()
    for name in ("import", "walrus", "lambda", "comprehension", "f-string"):
        eval(code(path)[name])
        assert path.exists(), name
        path.unlink()
