"""A damaged file is called so by its name, with what was found and expected, and what to do.

Each file of each data set is damaged in each way. The files are sparse and empty of content, so
that no data set is needed: their sizes are declared, and a check of content must find them wrong.
"""

import os
import shutil
import socket
import sys
from dataclasses import replace
from functools import partial

import pytest
from small_sets import assert_refused, list_files

from replicate import datasets, errors
from replicate.datasets import download

FILES = [(name, file) for name in datasets.NAMES for file in datasets.describe(name).files]
each_file = pytest.mark.parametrize(
    ("name", "file"), FILES, ids=[f"{name}-{file.path}" for name, file in FILES]
)


def truncate(path, file):
    os.truncate(path, file.size - 3073)
    return (f"has {file.size - 3073} bytes, want {file.size}",)


def empty(path, file):
    os.truncate(path, 0)
    return (f"has 0 bytes, want {file.size}",)


def extend(path, file):
    os.truncate(path, file.size + 1)
    return (f"has {file.size + 1} bytes, want {file.size}",)


def swap_for_folder(path, file):
    path.unlink()
    path.mkdir()
    return ("is a folder, not a plain file",)


def swap_for_pipe(path, file):
    path.unlink()
    os.mkfifo(path)
    return ("is a device, pipe or socket, not a plain file",)


def link_to_nothing(path, file):
    path.unlink()
    path.symlink_to("nowhere")
    return ("is a link to nowhere, where nothing is",)


def link_to_folder(path, file):
    path.unlink()
    path.symlink_to(path.parent)
    return ("is a folder, not a plain file",)


def link_to_another_file(path, file):
    path.unlink()
    (path.parent / "another").write_bytes(b"text")
    path.symlink_to("another")
    return (f"has 4 bytes, want {file.size}",)


DAMAGES = [
    truncate,
    empty,
    extend,
    swap_for_folder,
    swap_for_pipe,
    link_to_nothing,
    link_to_folder,
    link_to_another_file,
]
each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A folder with every file of every data set at its size, and no network."""
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for _, file in FILES:
        path = tmp_path / file.path
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.truncate(path, file.size)
    return tmp_path


def refuse(*_):
    raise ConnectionRefusedError("no network in this test")


@each_damage
@each_file
def test_fetching_names_the_damaged_file_not_the_server(data, name, file, damage):
    path = data / file.path
    words = damage(path, file)
    assert not datasets.at_hand(name)
    line = assert_refused(lambda: datasets.fetch(name), download.Damaged, 65, f"{path} ", *words)
    assert "could not be fetched" not in line and "not at hand" not in line
    assert "put the right" in line or "delete it and run python -m replicate data fetch" in line


@each_damage
@each_file
def test_using_it_names_the_damaged_file(data, name, file, damage):
    path = data / file.path
    words = (f"{path} ", *damage(path, file))
    alone = replace(datasets.describe(name), files=(file,))  # else all others are read before it
    for call in (alone.load, alone.verify):
        line = assert_refused(partial(call, data), errors.BadData, 65, *words)
        assert line.endswith((f"python -m replicate data fetch {name}", f"go on without {name}"))


@each_file
def test_a_file_of_the_right_size_with_other_bytes_fails_its_checksum(data, name, file):
    alone = replace(datasets.describe(name), files=(file,))
    words = (f"{data / file.path} has checksum", f"want {file.sha256[:12]}...", alone.remedy)
    assert_refused(lambda: alone.verify(data), errors.BadData, 65, *words)


def test_a_damaged_set_can_be_gone_without_like_a_missing_one():
    assert issubclass(download.Damaged, errors.Missing)
    assert download.Damaged("x").exit_code == errors.BadData.exit_code


def test_a_damaged_file_is_named_before_an_absent_one(data):
    files = datasets.describe("cifar10").files
    first = files[0]
    last = files[-1]
    (data / first.path).unlink()
    os.truncate(data / last.path, 7)
    line = assert_refused(lambda: datasets.fetch("cifar10"), download.Damaged, 65, last.path)
    assert first.path not in line


def test_nothing_is_written_or_deleted_where_a_damaged_file_is_found(data):
    before = list_files(data)
    for name, file in FILES:
        os.truncate(data / file.path, 5)
        with pytest.raises(download.Damaged):
            datasets.fetch(name)
        assert (data / file.path).read_bytes() == bytes(5)
        os.truncate(data / file.path, file.size)
    assert list_files(data) == before


@pytest.mark.parametrize("name", [n for n in datasets.NAMES if datasets.describe(n).url])
def test_a_folder_in_the_place_of_a_file_is_named_before_anything_is_downloaded(
    data, name, monkeypatch
):
    """The download would be for nothing: a file cannot take the place of a folder."""
    path = data / datasets.describe(name).files[0].path
    path.unlink()
    path.mkdir()
    monkeypatch.setattr(download, "_reach", None)
    assert_refused(lambda: datasets.fetch(name), download.Damaged, 65, f"{path} is a folder")


@pytest.mark.parametrize("tool", ["pooch", "requests"])
def test_where_nothing_can_fetch_the_damaged_file_is_still_named(data, monkeypatch, tool):
    file = datasets.describe("cifar100").files[1]
    os.truncate(data / file.path, 11)
    monkeypatch.setitem(sys.modules, tool, None)
    words = (f"{data / file.path} has 11 bytes, want {file.size}", f"{tool}, which fetches it")
    assert_refused(lambda: datasets.fetch("cifar100"), download.Damaged, 65, *words)


@pytest.mark.parametrize("name", ["cifar10", "tiny-imagenet-10", "imagewoof-64"])
def test_a_folder_that_cannot_be_looked_into_is_said(data, name, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.stat", denied)
    file = datasets.describe(name).files[0]
    words = (f"{data / file.path} cannot be read (Permission denied)", "make it readable")
    assert not datasets.at_hand(name)
    for call in (datasets.fetch, datasets.load, datasets.verify):
        assert_refused(partial(call, name), errors.Missing, 66, *words)


@pytest.mark.parametrize("name", ["cifar10", "tiny-imagenet-10"])
def test_a_name_that_is_too_long_is_said(name, monkeypatch):
    monkeypatch.setenv("REPLICATE_DATA", "/tmp/" + "x" * 300)
    assert not datasets.at_hand(name)
    for call in (datasets.fetch, datasets.verify):
        words = "cannot be read (File name too long)"
        assert_refused(partial(call, name), errors.Missing, 66, words)


def test_a_set_whose_folder_is_a_file_is_not_at_hand(data):
    shutil.rmtree(data / "imagewoof-64")
    (data / "imagewoof-64").write_text("a file")
    assert not datasets.at_hand("imagewoof-64")
    words = ("names.txt.xz cannot be read (Not a directory)",)
    assert_refused(lambda: datasets.verify("imagewoof-64"), errors.Missing, 66, *words)
    assert_refused(lambda: datasets.fetch("imagewoof-64"), errors.Missing, 66, "never fetched")
