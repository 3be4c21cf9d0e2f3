"""A written file is the old one or the new one, whole."""

import errno
import os
import resource
import subprocess
import sys

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
