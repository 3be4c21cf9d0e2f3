"""A written file is the old one or the new one, whole."""

import errno
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from replicate import paths
from replicate.errors import DiskFull
from replicate.paths import write_atomic


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path):
    write_atomic(tmp_path / "deep" / "file", b"old")
    write_atomic(tmp_path / "deep" / "file", b"new")
    assert (tmp_path / "deep" / "file").read_bytes() == b"new"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch, call):
    write_atomic(tmp_path / "file", b"old")

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(paths.os, call, crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, monkeypatch):
    write_atomic(tmp_path / "file", b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(paths.os, "fsync", full)
    with pytest.raises(DiskFull) as failure:
        write_atomic(tmp_path / "file", b"new")
    assert failure.value.exit_code == 74
    assert "No space left on device while writing" in str(failure.value)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_real_limit_of_the_file_size_is_seen_too(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from replicate.paths import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"write_atomic(Path({str(tmp_path / 'file')!r}), bytes(5000))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "DiskFull" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_where_a_folder_cannot_be_synced_the_file_is_there_whole_all_the_same(
    tmp_path, monkeypatch, refusal
):
    answer_to_folders(monkeypatch, refusal)
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_disk_that_breaks_while_a_folder_is_synced_is_not_passed_over(tmp_path, monkeypatch):
    answer_to_folders(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(tmp_path / "file", b"new")


def answer_to_folders(monkeypatch, code):
    """What `os.fsync` says to a folder; to a file it does what it always does."""
    sync = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        sync(handle)

    monkeypatch.setattr(paths.os, "fsync", fsync)


def test_a_share_that_fixes_the_rights_of_its_files_takes_a_file_too(tmp_path, monkeypatch):
    def chmod(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(paths.os, "chmod", chmod)
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


# The folder of the data sets.


def test_a_relative_data_folder_is_the_callers_for_every_later_call(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv(paths.DATA, "data-here")
    monkeypatch.chdir(tmp_path)
    assert paths.data_folder() == tmp_path / "data-here"
    monkeypatch.chdir(tmp_path / "notebooks")
    assert paths.data_folder() == tmp_path / "data-here"


def test_a_kernel_in_another_folder_is_handed_the_absolute_one(tmp_path, monkeypatch):
    """A kernel is a process that inherits the variables and starts in the notebook's folder."""
    monkeypatch.setenv(paths.DATA, "data-here")
    kernel = "import os; from replicate import paths; print(paths.data_folder())"
    code = (
        "import subprocess, sys; import replicate.paths\n"
        f"subprocess.run([sys.executable, '-c', {kernel!r}], cwd='notebooks', check=True)"
    )
    (tmp_path / "notebooks").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "data-here")


def test_a_tilde_is_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(paths.DATA, "~/sets")
    assert paths.data_folder() == tmp_path / "sets"


@pytest.mark.parametrize("empty", [None, ""])
def test_without_a_word_the_data_lies_in_the_checkout(monkeypatch, empty):
    monkeypatch.delenv(paths.DATA, raising=False)
    if empty is not None:
        monkeypatch.setenv(paths.DATA, empty)
    assert paths.data_folder() == paths.ROOT / "data"


def makes(folder: Path, words: str) -> str:
    """REPLICATE_DATA as `make` hands it on when it is called as in `words`."""
    # Within `make test` the outer make would print folders and hand its own variables on.
    code = f"cd '{folder}' && unset MAKEFLAGS MAKELEVEL MFLAGS && {words} -f - show"
    rule = f'include {paths.ROOT / "Makefile"}\nshow: ; @echo "$$REPLICATE_DATA"\n'
    return subprocess.run(
        ["bash", "-c", code], input=rule, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    "given, handed_on",
    [("'data here'", "{}/data here"), ("/abs/data", "/abs/data"), ("'~/data'", "~/data")],
    ids=["relative", "absolute", "home"],
)
@pytest.mark.parametrize("call", ["REPLICATE_DATA={} make", "make REPLICATE_DATA={}"])
def test_make_hands_on_an_absolute_folder_for_kernels_that_jupyter_starts(
    tmp_path, call, given, handed_on
):
    assert makes(tmp_path, call.format(given)) == handed_on.format(tmp_path)


# Line endings.


def attributes(path: str) -> str:
    done = subprocess.run(
        ["git", "check-attr", "text", "eol", "--", path],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return " ".join(line.split(": ")[-1] for line in done.stdout.splitlines())


def test_scripts_have_line_feeds_in_every_checkout_and_tables_are_left_alone():
    if not (paths.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert {attributes(path) for path in (".ci/run", "Makefile", "src/replicate/paths.py")} == {
        "auto lf"
    }
    assert attributes("data/results/cpu/x/y.parquet") == "unset lf"


@pytest.mark.parametrize(
    "place, file, checkout",
    [
        ("src", "pyproject.toml", True),
        ("src", "setup.cfg", False),
        ("site-packages", "pyproject.toml", False),
    ],
)
def test_a_checkout_is_the_repository_whose_root_holds_this_package(
    tmp_path, place, file, checkout
):
    (tmp_path / place / "replicate").mkdir(parents=True)
    (tmp_path / file).touch()
    assert paths.is_checkout(tmp_path / place / "replicate") == checkout


def test_in_a_checkout_everything_lies_in_it():
    assert paths.IS_CHECKOUT and paths.WORK == paths.ROOT
    assert paths.CLAIMS.is_dir() and paths.NOTEBOOKS.is_dir() and paths.BUILD.parent == paths.ROOT
