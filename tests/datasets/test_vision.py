"""Image sets: what is loaded equals the bytes on disk, and nothing that is wrong is loaded or written."""

import contextlib
import gzip
import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from replicate import errors, paths, streams
from replicate.datasets import vision

FOLDER = "cifar-10-batches-bin"
real_cifar10 = pytest.mark.skipif(not (paths.data_folder() / FOLDER).is_dir(), reason="cifar10 not at hand (make data)")


def records(count, seed, width=3073, classes=10):
    """`count` records as CIFAR has them: random pixels behind the label."""
    table = np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)
    table[:, 0] = np.arange(count) % classes
    return table.tobytes()


def as_file(path, content):
    return vision.File(path, len(content), hashlib.sha256(content).hexdigest())


def tar(members):
    """A gzipped tar archive of {path: bytes, or a TarInfo that is put in as it is}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(path, kind, target=""):
    info = tarfile.TarInfo(path)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def contents():
    return {
        f"{FOLDER}/data_batch_1.bin": records(20, 1),
        f"{FOLDER}/data_batch_2.bin": records(10, 2),
        f"{FOLDER}/test_batch.bin": records(10, 3),
    }


@pytest.fixture
def declare(monkeypatch, tmp_path):
    """Make `cifar10` mean these contents, this archive and this address; data and temporary files go to tmp_path."""
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def declare(contents, archive=b"", url="http://127.0.0.1:9/cifar-10-binary.tar.gz", **changes):
        files = [as_file(path, content) for path, content in contents.items()]
        manifest = replace(
            vision.MANIFESTS["cifar10"],
            url=url,
            archive=as_file("cifar-10-binary.tar.gz", archive),
            train=tuple(files[:-1]),
            test=tuple(files[-1:]),
            **changes,
        )
        monkeypatch.setitem(vision.MANIFESTS, "cifar10", manifest)

    return declare


@pytest.fixture
def put(tmp_path):
    def put(contents):
        for path, content in contents.items():
            (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / path).write_bytes(content)

    return put


@pytest.fixture
def server():
    """A local server of one body; `served.status` and `served.asked` are what it answers and what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            served.asked.append(self.command)
            self.send_response(served.status)
            self.send_header("Content-Length", str(len(served.body)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(served.body[: served.sent])

        def log_message(self, *_):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.status, served.body, served.sent, served.asked = 200, b"", None, []
    served.url = f"http://127.0.0.1:{served.server_port}/cifar-10-binary.tar.gz"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def assert_refused(call, kind, exit_code, *words):
    """The error's line, after checking that it is one line of the right class and code with these words in it."""
    with pytest.raises(errors.Failure) as caught:
        call()
    assert type(caught.value) is kind and caught.value.exit_code == exit_code
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line
    return line


# The digits


def test_digits_are_scikit_learns_split_once_and_for_all():
    from sklearn.datasets import load_digits

    digits, source = vision.load("digits"), load_digits()
    assert (digits.train_x.shape, digits.test_x.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (digits.train_x.dtype, digits.train_y.dtype, digits.classes, digits.peak) == (np.uint8, np.int64, 10, 16)
    assert digits.train_x.max() == digits.peak and digits.train_x.min() == 0
    test = np.sort(streams.rng(0, "eval", 0).permutation(1797)[:360])
    train = np.setdiff1d(np.arange(1797), test)
    for images, labels, rows in ((digits.test_x, digits.test_y, test), (digits.train_x, digits.train_y, train)):
        assert np.array_equal(images[..., 0], source.images[rows]) and np.array_equal(labels, source.target[rows])


def test_another_scikit_learns_digits_would_be_noticed(monkeypatch):
    import sklearn.datasets

    changed = sklearn.datasets.load_digits()
    changed.images[1000, 4, 4] += 1
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: changed)
    vision._digits.cache_clear()
    line = assert_refused(lambda: vision.load("digits"), errors.BadData, 65, "scikit-learn", vision.DIGITS_SHA256[:12])
    assert line.endswith("install the version in requirements.lock")


def test_digits_are_always_at_hand_and_never_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setattr(vision, "_reach", None)
    assert vision.at_hand("digits") and vision.fetch("digits") is None
    assert vision.verify("digits") == [("scikit-learn digits", vision.DIGITS_SHA256)]
    assert files_below(tmp_path) == []


def test_shared_arrays_cannot_be_written_to():
    digits = vision.load("digits")
    assert vision.load("digits") is digits
    for array in (digits.train_x, digits.train_y, digits.test_x, digits.test_y):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# The real CIFAR-10


@real_cifar10
def test_cifar10_has_its_counts_and_its_first_record():
    images = vision.load("cifar10")
    assert (images.train_x.shape, images.test_x.shape) == ((50000, 32, 32, 3), (10000, 32, 32, 3))
    assert (images.train_x.dtype, images.train_y.dtype, images.classes, images.peak) == (np.uint8, np.int64, 10, 255)
    assert np.bincount(images.train_y).tolist() == [5000] * 10 and np.bincount(images.test_y).tolist() == [1000] * 10
    for file, image, label in (
        ("data_batch_1", images.train_x[0], images.train_y[0]),
        ("data_batch_3", images.train_x[20000], images.train_y[20000]),
        ("test_batch", images.test_x[0], images.test_y[0]),
    ):
        with open(paths.data_folder() / FOLDER / f"{file}.bin", "rb") as plain:
            record = plain.read(3073)
        assert label == record[0]
        for row, column, channel in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (31, 31, 2), (7, 30, 1)):
            assert image[row, column, channel] == record[1 + 1024 * channel + 32 * row + column]


@real_cifar10
def test_cifar10_is_verified_in_full():
    checked = vision.verify("cifar10")
    assert [file for file, _ in checked] == [
        *(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6)),
        f"{FOLDER}/test_batch.bin",
    ]
    assert checked[0][1].startswith("cee916563c9f80d8")


def test_declared_sizes_are_those_of_50000_and_10000_images():
    for manifest in vision.MANIFESTS.values():
        width = manifest.label_bytes + 3072
        assert sum(file.size for file in manifest.train) == 50000 * width
        assert sum(file.size for file in manifest.test) == 10000 * width


# Small sets in the same layout


def test_files_keep_their_order_and_planes_become_channels(declare, put, contents):
    declare(contents)
    put(contents)
    images = vision.load("cifar10")
    plain = np.frombuffer(b"".join(contents.values()), np.uint8).reshape(40, 3073)
    assert np.array_equal(images.train_y, plain[:30, 0]) and np.array_equal(images.test_y, plain[30:, 0])
    planes = np.moveaxis(np.concatenate([images.train_x, images.test_x]), 3, 1)
    assert np.array_equal(planes.reshape(40, 3072), plain[:, 1:])
    assert images.train_x.flags.c_contiguous and not images.train_x.flags.writeable


def test_the_last_of_two_label_bytes_is_the_label(declare, put):
    coarse_fine = np.zeros((2, 3074), np.uint8)
    coarse_fine[:, 0], coarse_fine[:, 1] = (19, 7), (99, 3)
    contents = {f"{FOLDER}/train.bin": coarse_fine.tobytes(), f"{FOLDER}/test.bin": coarse_fine[::-1].tobytes()}
    declare(contents, label_bytes=2, classes=100)
    put(contents)
    images = vision.load("cifar10")
    assert images.train_y.tolist() == [99, 3] and images.test_y.tolist() == [3, 99] and images.classes == 100
    assert vision.MANIFESTS["cifar100"].label_bytes == 2 and vision.MANIFESTS["cifar100"].classes == 100


def test_checksum_changes_with_any_byte_of_the_set(declare, contents):
    declare(contents)
    before = vision.checksum("cifar10")
    declare({**contents, f"{FOLDER}/test_batch.bin": records(10, 4)})
    assert len(before) == 64 and vision.checksum("cifar10") != before != vision.checksum("digits")


@pytest.mark.parametrize("call", [vision.load, vision.verify])
def test_missing_set_says_where_it_was_looked_for_and_what_helps(declare, contents, tmp_path, call):
    declare(contents)
    assert not vision.at_hand("cifar10")
    where = f"cifar10 is not at hand in {tmp_path / 'data'}"
    helps = ("run make data", f"set REPLICATE_DATA to a folder that has {FOLDER}/")
    assert_refused(lambda: call("cifar10"), errors.Missing, 66, where, *helps)
    assert files_below(tmp_path) == []


def test_one_absent_file_is_named(declare, put, contents, tmp_path):
    declare(contents)
    put(contents)
    (tmp_path / "data" / FOLDER / "data_batch_2.bin").unlink()
    assert not vision.at_hand("cifar10")
    assert_refused(lambda: vision.load("cifar10"), errors.Missing, 66, "data_batch_2.bin")


def cut(content):
    return content[:-1]


def flip(content):
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize("file", ["data_batch_2.bin", "test_batch.bin"])
@pytest.mark.parametrize("damage, words", [(cut, ("30729 bytes", "want 30730")), (flip, ("has checksum", "want"))])
@pytest.mark.parametrize("call", [vision.load, vision.verify])
def test_damaged_file_is_refused_and_left_alone(declare, put, contents, tmp_path, call, damage, words, file):
    declare(contents)
    damaged = {**contents, f"{FOLDER}/{file}": damage(contents[f"{FOLDER}/{file}"])}
    put(damaged)
    fetched = "delete it and run python -m replicate data fetch cifar10"
    assert_refused(lambda: call("cifar10"), errors.BadData, 65, f"{FOLDER}/{file} has", *words, fetched)
    assert {path: (tmp_path / "data" / path).read_bytes() for path in contents} == damaged


def test_a_pipe_in_place_of_a_file_is_not_read(declare, put, contents, tmp_path):
    declare(contents)
    put(contents)
    pipe = tmp_path / "data" / FOLDER / "test_batch.bin"
    pipe.unlink()
    os.mkfifo(pipe)
    assert_refused(lambda: vision.load("cifar10"), errors.BadData, 65, "not a plain file")


def test_label_outside_the_classes_is_refused_even_with_the_right_checksum(declare, put, contents):
    path = f"{FOLDER}/data_batch_2.bin"
    contents[path] = bytes([10]) + contents[path][1:]
    declare(contents)
    put(contents)
    assert_refused(lambda: vision.load("cifar10"), errors.BadData, 65, "data_batch_2.bin has label 10", "less than 10")


def test_file_of_other_records_is_refused_even_with_the_right_checksum(declare, put, contents):
    contents[f"{FOLDER}/test_batch.bin"] = records(10, 3, width=3074)
    declare(contents)
    put(contents)
    assert_refused(
        lambda: vision.load("cifar10"), errors.BadData, 65, "test_batch.bin has 30740 bytes", "multiple of 3073"
    )


@pytest.mark.parametrize("call", [vision.load, vision.at_hand, vision.fetch, vision.verify, vision.checksum])
def test_unknown_name_is_answered_with_the_nearest(call):
    assert_refused(
        lambda: call("cifar-10"), errors.BadParameter, 64, "data set 'cifar-10'", "did you mean 'cifar10'?", "digits"
    )


# Fetching


def test_round_trip_from_a_server(declare, server, contents, tmp_path):
    readme = {f"{FOLDER}/readme.html": b"<html>", f"{FOLDER}/sub": special(f"{FOLDER}/sub", tarfile.DIRTYPE)}
    server.body = tar({FOLDER: special(FOLDER, tarfile.DIRTYPE), **readme, **contents})
    declare(contents, server.body, server.url)
    vision.fetch("cifar10")
    assert files_below(tmp_path) == sorted(f"data/{path}" for path in contents)
    assert {path: (tmp_path / "data" / path).read_bytes() for path in contents} == contents
    assert vision.at_hand("cifar10") and vision.load("cifar10").train_y.shape == (30,)
    assert server.asked == ["HEAD", "GET"]
    vision.fetch("cifar10")
    assert server.asked == ["HEAD", "GET"]


def test_fetch_mends_a_set_that_was_cut_short(declare, put, server, contents, tmp_path):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    put({**contents, f"{FOLDER}/test_batch.bin": cut(contents[f"{FOLDER}/test_batch.bin"])})
    vision.fetch("cifar10")
    assert vision.verify("cifar10") and files_below(tmp_path) == sorted(f"data/{path}" for path in contents)


@pytest.mark.parametrize("sent", [None, 20000])
def test_a_bar_is_shown_to_whom_looks_and_always_closed(declare, server, contents, monkeypatch, sent):
    import tqdm.auto

    alive, closed = [], []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named, disable=False, file=io.StringIO())  # TQDM_DISABLE is read at import
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
        vision.fetch("cifar10")
    assert closed[-1] == ("fetching cifar10", len(server.body), "B", sent is None)


@pytest.mark.parametrize("damage, words", [(cut, ("bytes", "want")), (flip, ("has checksum", "want"))])
def test_archive_with_another_checksum_is_not_kept(declare, server, contents, tmp_path, damage, words):
    right = tar(contents)
    declare(contents, right, server.url)
    server.body = damage(right)
    assert_refused(
        lambda: vision.fetch("cifar10"), errors.BadData, 65, "cifar-10-binary.tar.gz has", *words, "try again"
    )
    assert files_below(tmp_path) == []


TEST_FILE = f"{FOLDER}/test_batch.bin"
HOSTILE = {
    "symbolic link": ({TEST_FILE: special(TEST_FILE, tarfile.SYMTYPE, "/etc/passwd")}, "is a link"),
    "hard link": ({TEST_FILE: special(TEST_FILE, tarfile.LNKTYPE, f"{FOLDER}/data_batch_1.bin")}, "is a link"),
    "link beside": ({"beside": special(f"{FOLDER}/beside", tarfile.SYMTYPE, "..")}, "is a link"),
    "device": ({"device": special(f"{FOLDER}/device", tarfile.CHRTYPE)}, "is a device or pipe"),
    "pipe": ({TEST_FILE: special(TEST_FILE, tarfile.FIFOTYPE)}, "is a device or pipe"),
    "upwards": ({f"{FOLDER}/../../escaped": b"x"}, "leads out"),
    "absolute": ({"/tmp/escaped": b"x"}, "leads out"),
    "bomb": ({f"{FOLDER}/zeros": bytes(4 * 2**20)}, "honestly hold"),
    "large member": ({TEST_FILE: bytes(4 * 2**20)}, "4194304 bytes, want 30730"),
    "other bytes": ({TEST_FILE: records(10, 4)}, "has checksum"),
    "absent": ({TEST_FILE: special("elsewhere", tarfile.DIRTYPE)}, f"does not hold {TEST_FILE}"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archive_is_refused_even_with_the_right_checksum(declare, server, contents, tmp_path, what):
    members, words = HOSTILE[what]
    server.body = tar({**contents, **members})
    declare(contents, server.body, server.url)
    assert_refused(lambda: vision.fetch("cifar10"), errors.BadData, 65, "cifar-10-binary.tar.gz", words, "refused")
    assert files_below(tmp_path) == []


def test_bomb_is_stopped_at_its_bound(declare, server, contents, monkeypatch):
    read = []
    gzip_read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size: read.append(size) or gzip_read(self, size))
    server.body = tar({f"{FOLDER}/zeros": bytes(2**25), **contents})
    declare(contents, server.body, server.url)
    assert_refused(lambda: vision.fetch("cifar10"), errors.BadData, 65, "honestly hold")
    assert sum(read) < 2 * vision.SLACK


@pytest.mark.parametrize(
    "body",
    [b"<html>log in first</html>", b"", gzip.compress(b"no tar archive" * 99)],
    ids=["page", "nothing", "no tar"],  # gzip writes the time into its bytes: two workers need not see the same second
)
def test_something_else_than_an_archive_is_refused(declare, server, contents, tmp_path, body):
    server.body = body
    declare(contents, body, server.url)
    assert_refused(lambda: vision.fetch("cifar10"), errors.BadData, 65, "cut short or not a gzipped tar archive")
    assert files_below(tmp_path) == []


def test_archive_that_ends_within_a_file_is_refused(declare, server, contents, tmp_path):
    server.body = tar(contents)[:40000]
    declare(contents, server.body, server.url)
    assert_refused(lambda: vision.fetch("cifar10"), errors.BadData, 65, "cut short")
    assert files_below(tmp_path) == []


def test_closed_port_is_one_line_at_once(declare, contents, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/cifar-10-binary.tar.gz"
    declare(contents, url=url)
    line = assert_refused(
        lambda: vision.fetch("cifar10"), errors.Missing, 66, f"REPLICATE_DATA to a folder that has {FOLDER}/"
    )
    assert line.startswith("cifar10 could not be fetched within 10 s (127.0.0.1: Connection refused);")
    assert files_below(tmp_path) == [] and not (tmp_path / "data").exists()


def test_name_that_is_looked_up_for_ever_is_given_up(declare, contents, tmp_path, monkeypatch):
    declare(contents, url="http://cifar.invalid/cifar-10-binary.tar.gz")
    monkeypatch.setattr(vision, "REACH", 0.2)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(2))
    started = time.monotonic()
    assert_refused(lambda: vision.fetch("cifar10"), errors.Missing, 66, "within 0.2 s (cifar.invalid: no answer)")
    assert time.monotonic() - started < 1.5 and files_below(tmp_path) == []


def test_server_without_the_archive_is_missing(declare, server, contents, tmp_path):
    server.status = 404
    declare(contents, tar(contents), server.url)
    assert_refused(lambda: vision.fetch("cifar10"), errors.Missing, 66, "could not be fetched (127.0.0.1: 404")
    assert files_below(tmp_path) == []


def test_connection_that_breaks_off_leaves_nothing(declare, server, contents, tmp_path):
    server.body, server.sent = tar(contents), 20000
    declare(contents, server.body, server.url)
    assert_refused(lambda: vision.fetch("cifar10"), errors.Missing, 66, "could not be fetched (127.0.0.1: ")
    assert files_below(tmp_path) == []


def test_folder_that_cannot_be_written_is_said(declare, server, contents, tmp_path):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    (tmp_path / "data").write_text("a file")
    assert_refused(lambda: vision.fetch("cifar10"), errors.Missing, 66, "cannot be written", "REPLICATE_DATA")
    assert files_below(tmp_path) == ["data"] and (tmp_path / "data").read_text() == "a file"


def test_full_disk_is_said(declare, server, contents, tmp_path, monkeypatch):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(full))
    assert_refused(lambda: vision.fetch("cifar10"), errors.DiskFull, 74, "No space left on device", FOLDER)
    assert files_below(tmp_path) == []


def test_full_temporary_disk_is_said(declare, server, contents, tmp_path, monkeypatch):
    server.body = tar(contents)
    declare(contents, server.body, server.url)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", lambda *_: (_ for _ in ()).throw(full))
    assert_refused(lambda: vision.fetch("cifar10"), errors.DiskFull, 74, "No space left on device", "TMPDIR")
    assert files_below(tmp_path) == []


def test_module_needs_neither_pooch_nor_pillow_nor_torch():
    script = (
        "import sys, types; sys.modules.update(PIL=None, pooch=None, requests=None, sklearn=None, torch=None)\n"
        "package = sys.modules['replicate.datasets'] = types.ModuleType('replicate.datasets')\n"
        f"package.__path__ = [{os.path.dirname(vision.__file__)!r}]  # without what else the package imports\n"
        "from replicate.datasets import vision\n"
        "try: vision.load('cifar1O')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    known = "cifar10, cifar100, digits, tiny-imagenet-10"
    assert done.stdout == f"unknown data set 'cifar1O'; did you mean 'cifar10'? known: {known}\n"


def test_the_data_page_tells_of_every_file_what_the_code_checks():
    page = (paths.ROOT / "data" / "README.md").read_text()
    for manifest in vision.MANIFESTS.values():
        assert manifest.url in page
        for file in (manifest.archive, *manifest.files):
            assert f"| `{file.path}` | {file.size} | `{file.sha256}` |" in page
    assert vision.DIGITS_SHA256 in page


@pytest.mark.parametrize("tool", ["pooch", "requests"])
def test_where_nothing_can_fetch_a_set_is_only_found(monkeypatch, tmp_path, tool):
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(
        errors.Missing, match=f"cifar100 is not at hand, and {tool}, which fetches it, is not installed; set REPL"
    ):
        vision.fetch("cifar100")
