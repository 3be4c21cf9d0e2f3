"""Small data sets in the layouts of the large ones, and how a refusal is checked."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from replicate import errors
from replicate.datasets.files import File

FOLDER = "cifar-10-batches-bin"


def records(count, seed, width=3073, classes=10):
    """`count` records as CIFAR has them: random pixels behind the label."""
    table = np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)
    table[:, 0] = np.arange(count) % classes
    return table.tobytes()


def as_file(path, content):
    return File(path, len(content), hashlib.sha256(content).hexdigest())


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
    info.type = kind
    info.linkname = target
    return info


def cut(content):
    return content[:-1]


def flip(content):
    """One bit in the middle is another one."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def list_files(folder):
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    return sorted(str(path.relative_to(folder)) for path in paths)


def assert_refused(call, kind, exit_code, *words):
    """The error's line, after checking that it is one line of this class with these words."""
    with pytest.raises(errors.Failure) as caught:
        call()
    assert type(caught.value) is kind and caught.value.exit_code == exit_code
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line
    return line
