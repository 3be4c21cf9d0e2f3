"""A small CIFAR-10 in place of the real one, and a local server of its archive."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from small_sets import FOLDER, as_file, records

from replicate.datasets import cifar10


@pytest.fixture
def contents():
    return {
        f"{FOLDER}/data_batch_1.bin": records(20, 1),
        f"{FOLDER}/data_batch_2.bin": records(10, 2),
        f"{FOLDER}/test_batch.bin": records(10, 3),
    }


@pytest.fixture
def declare(monkeypatch, tmp_path):
    """Make `cifar10` mean these contents, this archive and this address; all goes to tmp_path."""
    monkeypatch.setenv("REPLICATE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    real = cifar10.DATASET

    def declare(contents, archive=b"", url="http://127.0.0.1:9/cifar-10-binary.tar.gz", **changes):
        small = replace(
            real,
            url=url,
            archive=as_file("cifar-10-binary.tar.gz", archive),
            files=tuple(as_file(path, content) for path, content in contents.items()),
            **changes,
        )
        monkeypatch.setattr(cifar10, "DATASET", small)

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
    """A local server of one body.

    `served.status` is what it answers, `served.asked` what it was asked, `served.sent` how many
    bytes of the body it sends before it breaks off.
    """

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
    served.status = 200
    served.body = b""
    served.sent = None
    served.asked = []
    served.url = f"http://127.0.0.1:{served.server_port}/cifar-10-binary.tar.gz"
    serve = {"target": served.serve_forever, "kwargs": {"poll_interval": 0.01}}
    threading.Thread(**serve, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()
