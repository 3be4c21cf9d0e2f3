"""Bytes and texts that run something if whoever reads them executes or imports what they say; each
would make a file, the canary, which nobody may ever see.
"""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np

from replicate.training.checkpoint import MAGIC


class Call:
    """What a pickle calls when it is opened."""

    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def pickles(canary: Path) -> dict[str, bytes]:
    """Name -> a pickle, or a container of one, that makes the canary."""
    import os

    shell = Call(os.system, f"touch {canary}")
    plain = {
        f"pickle {protocol}": pickle.dumps(shell, protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    }
    code = Call(exec, f"open({str(canary)!r}, 'w')")
    return plain | {
        "pickle of code": pickle.dumps(code),
        "pickle behind an honest one": pickle.dumps([1, 2]) + pickle.dumps(code),
        "array of objects": save_objects(code),
        "archive of arrays": zip_of({"images.npy": save_objects(code)}),
        "torch's archive": zip_of({
            "archive/data.pkl": pickle.dumps(code, 2),
            "archive/version": b"3\n",
            "archive/byteorder": b"little",
        }),
        "torch's old file": b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}))
        + pickle.dumps(code, 2),
        "tar of a pickle": tar_of("data_batch_1", pickle.dumps(code)),
    }  # fmt: skip


def save_objects(item) -> bytes:
    array = np.empty(1, object)
    array[0] = item
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        about = tarfile.TarInfo(name)
        about.size = len(content)
        archive.addfile(about, io.BytesIO(content))
    return buffer.getvalue()


def sealed(body: bytes) -> bytes:
    """A checkpoint of these bytes whose checksum is right: anybody can compute it."""
    return body + MAGIC + sha256(body).digest()


def tensors(header: object, content: bytes = b"") -> bytes:
    """A sealed checkpoint with this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return sealed(struct.pack("<Q", len(text)) + text + content)


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {  # what a header may say -> a sealed checkpoint
    "no header": sealed(b""),
    "header longer than the file": sealed(struct.pack("<Q", 2**62) + b"{}"),
    "header of text": tensors(b"touch canary"),
    "header that is a list": tensors([ONE]),
    "header that is nested": tensors(b"[" * 20_000),
    "offsets behind the end": tensors({"x": ONE | {"data_offsets": [0, 2**40]}}, bytes(4)),
    "offsets before the start": tensors({"x": ONE | {"data_offsets": [-4, 0]}}, bytes(4)),
    "offsets backwards": tensors({"x": ONE | {"data_offsets": [4, 0]}}, bytes(4)),
    "shape of a terabyte": tensors({"x": ONE | {"shape": [2**38]}}, bytes(4)),
    "shape that wraps around": tensors({"x": ONE | {"shape": [2**32, 2**32]}}, bytes(4)),
    "type that is a name": tensors({"x": ONE | {"dtype": "os.system"}}, bytes(4)),
    "two tensors in one place": tensors({"x": ONE, "y": ONE}, bytes(4)),
    "nothing said of itself": tensors({"x": ONE}, bytes(4)),
    "says no JSON of itself": tensors({"__metadata__": {"about": "{"}, "x": ONE}, bytes(4)),
    "says a number of itself": tensors({"__metadata__": {"about": 1}, "x": ONE}, bytes(4)),
}


def code(canary: Path) -> dict[str, str]:
    """Name -> a text that a reader which evaluates, formats or opens a shell would run."""
    path = str(canary)
    return {
        "import": f"__import__('os').system('touch {path}')",
        "walrus": f"(x := open({path!r}, 'w'))",
        "lambda": f"(lambda: open({path!r}, 'w'))()",
        "comprehension": f"[open(p, 'w') for p in [{path!r}]]",
        "f-string": f'f\'{{open("{path}", "w")}}\'',
        "statement behind": f"0.1; import os; os.system('touch {path}')",
        "line behind": f"0.1\nimport os\nos.system('touch {path}')",
        "shell": f"$(touch {path})",
        "backticks": f"`touch {path}`",
        "pipe": f"| touch {path}",
        "YAML object": f"!!python/object/apply:os.system ['touch {path}']",
        "template": f"{{{{ ''.__class__.__mro__[1].__subclasses__() }}}} {path}",
        "attribute": "{0.__class__.__init__.__globals__}",
        "interpolation": "%(x)s %n ${HOME}",
        "path upwards": f"../../../../../../..{path}",
        "path": path,
        "module": "os.system",
        "markup": f"<script>fetch('file://{path}')</script>",
        "picture": f"<img src=x onerror=\"open('{path}')\">",
        "link": "[x](javascript:alert(1))",
        "NUL": f"lr\0{path}",
        "control": "\x1b]0;owned\x07\x1b[2J",
        "right to left": "\u202egnp.x",
        "surrogate": "\udcff",
        "nothing": "",
        "long": "x" * 100_000,
    }
