"""Fetching: all of a set or nothing, and nothing that is wrong is written."""

import contextlib
import gzip
import io
import socket
import sys
import tarfile
import time

import pytest
from small_sets import (
    FOLDER,
    assert_refused,
    cut,
    flip,
    list_files,
    records,
    special,
    tar,
)

from replicate import datasets, errors
from replicate.datasets import download


def fetch():
    datasets.fetch("cifar10")


def test_round_trip_from_a_server(declare, server, contents, tmp_path):
    readme = {
        f"{FOLDER}/readme.html": b"<html>",
        f"{FOLDER}/sub": special(f"{FOLDER}/sub", tarfile.DIRTYPE),
    }
    server.body = tar({FOLDER: special(FOLDER, tarfile.DIRTYPE), **readme, **contents})
    declare(contents, server.body, server.url)
    fetch()
    assert list_files(tmp_path) == sorted(f"data/{path}" for path in contents)
    assert {path: (tmp_path / "data" / path).read_bytes() for path in contents} == contents
    assert datasets.at_hand("cifar10") and datasets.load("cifar10").train_y.shape == (30,)
    assert server.asked == ["HEAD", "GET"]
    fetch()
    assert server.asked == ["HEAD", "GET"]


def test_fetch_mends_a_set_that_was_cut_short(declare, put, server, contents, tmp_path):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    put({**contents, f"{FOLDER}/test_batch.bin": cut(contents[f"{FOLDER}/test_batch.bin"])})
    fetch()
    assert datasets.verify("cifar10") and list_files(tmp_path) == sorted(
        f"data/{path}" for path in contents
    )


def test_fetch_puts_a_file_in_the_place_of_a_link_and_leaves_its_target(
    declare, put, server, contents, tmp_path
):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    put(contents)
    links = [tmp_path / "data" / path for path in contents][:2]
    for link, target in zip(links, ("nowhere", "../../other"), strict=True):
        link.unlink()
        link.symlink_to(target)
    (tmp_path / "other").write_bytes(b"text")
    fetch()
    assert datasets.verify("cifar10") and not any(link.is_symlink() for link in links)
    assert (tmp_path / "other").read_bytes() == b"text"


@pytest.mark.parametrize("sent", [None, 20000])
def test_a_terminal_shows_a_bar_that_is_always_closed(declare, server, contents, monkeypatch, sent):
    import tqdm.auto

    alive, closed = [], []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, *arguments, **named):
            # `disable` is given, since TQDM_DISABLE is read at import.
            super().__init__(*arguments, **named, disable=False, file=io.StringIO())
            alive.append(self)  # a bar that is thrown away closes itself

        def close(self):
            closed.append((self.desc, self.total, self.unit, self.n == self.total))
            super().close()

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    server.body, server.sent = tar(contents), sent
    declare(contents, server.body, server.url)
    with contextlib.suppress(errors.Missing):
        fetch()
    assert closed[-1] == ("fetching cifar10", len(server.body), "B", sent is None)


@pytest.mark.parametrize(
    "damage, words", [(cut, ("bytes", "want")), (flip, ("has checksum", "want"))]
)
def test_archive_with_another_checksum_is_not_kept(
    declare, server, contents, tmp_path, damage, words
):
    right = tar(contents)
    declare(contents, right, server.url)
    server.body = damage(right)
    assert_refused(fetch, errors.BadData, 65, "cifar-10-binary.tar.gz has", *words, "try again")
    assert list_files(tmp_path) == []


TEST_FILE = f"{FOLDER}/test_batch.bin"
HOSTILE = {
    "symbolic link": ({TEST_FILE: special(TEST_FILE, tarfile.SYMTYPE, "/etc/passwd")}, "is a link"),
    "hard link": (
        {TEST_FILE: special(TEST_FILE, tarfile.LNKTYPE, f"{FOLDER}/data_batch_1.bin")},
        "is a link",
    ),
    "link beside": ({"beside": special(f"{FOLDER}/beside", tarfile.SYMTYPE, "..")}, "is a link"),
    "device": ({"device": special(f"{FOLDER}/device", tarfile.CHRTYPE)}, "is a device or pipe"),
    "pipe": ({TEST_FILE: special(TEST_FILE, tarfile.FIFOTYPE)}, "is a device or pipe"),
    "upwards": ({f"{FOLDER}/../../escaped": b"x"}, "leads out"),
    "absolute": ({"/tmp/escaped": b"x"}, "leads out"),
    "bomb": ({f"{FOLDER}/zeros": bytes(4 * 2**20)}, "its upper bound"),
    "large member": ({TEST_FILE: bytes(4 * 2**20)}, "4194304 bytes, want 30730"),
    "other bytes": ({TEST_FILE: records(10, 4)}, "has checksum"),
    "absent": ({TEST_FILE: special("elsewhere", tarfile.DIRTYPE)}, f"does not hold {TEST_FILE}"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archive_is_refused_even_with_the_right_checksum(
    declare, server, contents, tmp_path, what
):
    members, words = HOSTILE[what]
    server.body = tar({**contents, **members})
    declare(contents, server.body, server.url)
    assert_refused(fetch, errors.BadData, 65, "cifar-10-binary.tar.gz", words, "refused")
    assert list_files(tmp_path) == []


def test_bomb_is_stopped_at_its_bound(declare, server, contents, monkeypatch):
    read = []
    gzip_read = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda self, size: read.append(size) or gzip_read(self, size)
    )
    server.body = tar({f"{FOLDER}/zeros": bytes(2**25), **contents})
    declare(contents, server.body, server.url)
    assert_refused(fetch, errors.BadData, 65, "its upper bound")
    assert sum(read) < 2 * download.SLACK


@pytest.mark.parametrize(
    "body",
    [b"<html>log in first</html>", b"", gzip.compress(b"no tar archive" * 99)],
    # The time is in gzip's bytes, so two workers need not see the same ones.
    ids=["page", "nothing", "no tar"],
)
def test_something_else_than_an_archive_is_refused(declare, server, contents, tmp_path, body):
    server.body = body
    declare(contents, body, server.url)
    assert_refused(fetch, errors.BadData, 65, "cut short or not a gzipped tar archive")
    assert list_files(tmp_path) == []


def test_archive_that_ends_within_a_file_is_refused(declare, server, contents, tmp_path):
    server.body = tar(contents)[:40000]
    declare(contents, server.body, server.url)
    assert_refused(fetch, errors.BadData, 65, "cut short")
    assert list_files(tmp_path) == []


def test_closed_port_is_one_line_at_once(declare, contents, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/cifar-10-binary.tar.gz"
    declare(contents, url=url)
    line = assert_refused(
        fetch, errors.Missing, 66, f"REPLICATE_DATA to a folder that has {FOLDER}/"
    )
    assert line.startswith(
        "cifar10 could not be fetched within 10 s (127.0.0.1: Connection refused);"
    )
    assert list_files(tmp_path) == [] and not (tmp_path / "data").exists()


def test_name_that_is_looked_up_for_ever_is_given_up(declare, contents, tmp_path, monkeypatch):
    declare(contents, url="http://cifar.invalid/cifar-10-binary.tar.gz")
    monkeypatch.setattr(download, "REACH", 0.2)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(2))
    started = time.monotonic()
    assert_refused(fetch, errors.Missing, 66, "within 0.2 s (cifar.invalid: no answer)")
    assert time.monotonic() - started < 1.5 and list_files(tmp_path) == []


def test_server_without_the_archive_is_missing(declare, server, contents, tmp_path):
    server.status = 404
    declare(contents, tar(contents), server.url)
    assert_refused(fetch, errors.Missing, 66, "could not be fetched (127.0.0.1: 404")
    assert list_files(tmp_path) == []


def test_connection_that_breaks_off_leaves_nothing(declare, server, contents, tmp_path):
    server.body, server.sent = tar(contents), 20000
    declare(contents, server.body, server.url)
    assert_refused(fetch, errors.Missing, 66, "could not be fetched (127.0.0.1: ")
    assert list_files(tmp_path) == []


def test_folder_that_cannot_be_written_is_said(declare, server, contents, tmp_path):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    (tmp_path / "data").write_text("a file")
    assert_refused(fetch, errors.Missing, 66, "cannot be written", "REPLICATE_DATA")
    assert list_files(tmp_path) == ["data"] and (tmp_path / "data").read_text() == "a file"


def test_full_disk_is_said(declare, server, contents, tmp_path, monkeypatch):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(full))
    assert_refused(fetch, errors.DiskFull, 74, "No space left on device", FOLDER)
    assert list_files(tmp_path) == []


def test_full_temporary_disk_is_said(declare, server, contents, tmp_path, monkeypatch):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", lambda *_: (_ for _ in ()).throw(full))
    assert_refused(fetch, errors.DiskFull, 74, "No space left on device", "TMPDIR")
    assert list_files(tmp_path) == []


@pytest.mark.parametrize("tool", ["pooch", "requests"])
def test_where_nothing_can_fetch_a_set_is_only_found(monkeypatch, tmp_path, tool):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(
        errors.Missing,
        match=f"cifar100 is not at hand, and {tool}, which fetches it, is not installed; set REPL",
    ):
        datasets.fetch("cifar100")
