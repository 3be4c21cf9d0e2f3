"""A checkpoint is one safetensors file with a checksum behind it, written whole or not at all.

A run keeps its newest two, so that one that is damaged costs the steps since the other, and those
it gave a name.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from replicate.errors import BadData, Missing
from replicate.paths import write_atomic
from replicate.training.loop import State

MAGIC = b"REPLICATE-CKPT-1"
DIGEST = 32  # bytes of a SHA-256
JSON_TYPES = (bool, int, float, str, type(None))  # what JSON gives back as it was


def save_tensor_file(path: Path, tensors: dict[str, Tensor], about: dict | None = None) -> None:
    """Write named tensors and a JSON-able dict. Raises DiskFull; an older file at `path` is then
    still there.

    Tensors that share memory, such as tied weights or views of one buffer, are written each by
    itself.
    """
    plain = _apart({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    body = save_tensors(plain, metadata={"about": json.dumps(about or {}, sort_keys=True)})
    write_atomic(path, body + MAGIC + hashlib.sha256(body).digest())


def load_tensor_file(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the dict of `save_tensor_file`. Raises Missing, or BadData if any byte has
    changed.
    """
    if not path.exists():
        raise Missing(f"checkpoint {path} is not there")
    content = path.read_bytes()
    body, magic, digest = (
        content[: -DIGEST - len(MAGIC)],
        content[-DIGEST - len(MAGIC) : -DIGEST],
        content[-DIGEST:],
    )
    if magic != MAGIC:
        raise BadData(
            f"{path} is not a whole checkpoint "
            f"(cut short or another kind of file, {len(content)} bytes)"
        )
    if hashlib.sha256(body).digest() != digest:
        raise BadData(f"{path} fails its checksum (bytes changed after it was written)")
    try:
        tensors = load_tensors(body)
        length = int.from_bytes(body[:8], "little")
        about = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["about"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadData(
            f"{path} is damaged or was written by another program ({type(error).__name__})"
        ) from None
    return tensors, about


def save_state(
    path: Path, state: State, run: str = "", records: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write model (buffers included), optimizer, averages and step: all from which a run goes on to
    the same bits.

    Optimizer and averages are what their `state_dict` says, nested as it may be: tensors, arrays,
    numbers of Python and NumPy, which keep their precision, text and None, in dicts, lists and
    tuples. run: a name of the run, which has to be told again to load the file; records: arrays to
    keep with it, such as the losses so far. Raises ValueError, naming the place, for what a
    checkpoint cannot hold, and DiskFull; no file is changed then.
    """
    tensors = {
        f"model/{name}": _tensor(value, f"model/{name}")
        for name, value in state.model.state_dict().items()
    }
    tensors |= {
        f"records/{name}": _from_numpy(values, f"records/{name}")
        for name, values in (records or {}).items()
    }
    optimizer = _split(state.optimizer.state_dict(), "optimizer", tensors)
    averages = _split([average.state_dict() for average in state.averages], "averages", tensors)
    about = {"run": run, "step": int(state.step), "optimizer": optimizer, "averages": averages}
    save_tensor_file(path, tensors, about)


@torch.no_grad()
def load_state(path: Path, state: State, run: str = "") -> State:
    """Fill model, optimizer and averages of `state` with what `save_state` wrote; returns it with
    the step of the file.

    A state without averages leaves those of the file alone: a branch needs none. Raises Missing or
    BadData, also if the file belongs to another run, model, optimizer or other averages; the model
    is then unchanged.
    """
    tensors, about = load_tensor_file(path)
    if "run" not in about:
        raise BadData(f"{path} holds tensors and no state of a run; load it with load_tensor_file")
    model = _under("model/", tensors)
    expected = state.model.state_dict()
    if about["run"] != run:
        raise BadData(f"{path} is a checkpoint of another run ({about['run']!r}, not {run!r})")
    if {n: t.shape for n, t in model.items()} != {n: t.shape for n, t in expected.items()}:
        raise BadData(f"{path} holds another model than the one asked for")
    try:
        kind = "averages"
        if state.averages:
            for average, saved in zip(
                state.averages, _join(about["averages"], tensors), strict=True
            ):
                average.load_state_dict(saved)
        kind = "optimizer"
        state.optimizer.load_state_dict(_join(about["optimizer"], tensors))
    except (KeyError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise BadData(f"{path} holds another {kind} than the one asked for ({line})") from None
    state.model.load_state_dict(model)
    return State(state.model, state.optimizer, state.averages, about["step"])


def load_records(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `save_state` was given as records. Raises Missing or BadData."""
    return {
        name: values.numpy()
        for name, values in _under("records/", load_tensor_file(path)[0]).items()
    }


class Checkpoints:
    """The states of one run in one folder: `step-<step>.ckpt`, the newest two, and `<name>.ckpt`,
    for ever.
    """

    KEPT = 2

    def __init__(self, folder: Path, run: str):
        """run: what tells this run from every other, such as the key of its settings and code, and
        its seed.
        """
        self.folder, self.run = folder, run

    def save(self, state: State, records: Mapping[str, np.ndarray] | None = None) -> None:
        """Write the state of its step, then remove all but the newest two. Raises DiskFull; the
        older ones are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        save_state(self._path(state.step), state, self.run, records)
        for old in self._steps()[: -self.KEPT]:
            self._path(old).unlink()

    def keep(self, name: str, state: State) -> None:
        """Write a state that stays, to branch from."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_state(self.folder / f"{name}.ckpt", state, self.run)

    def newest(self) -> int | None:
        """The step of the newest whole checkpoint, None without one; a line on stderr names each
        damaged one.
        """
        for step in reversed(self._steps()):
            try:
                _, about = load_tensor_file(self._path(step))
            except BadData as error:
                print(f"skipped: {error}", file=sys.stderr)
                continue
            if about.get("run") != self.run:
                raise BadData(
                    f"{self._path(step)} is a checkpoint of another run "
                    f"({about.get('run')!r}, not {self.run!r})"
                )
            return step
        return None

    def load(self, at: int | str, state: State) -> State:
        """`load_state` of a step or a name."""
        return load_state(self._path(at), state, self.run)

    def records(self, at: int | str) -> dict[str, np.ndarray]:
        """`load_records` of a step or a name."""
        return load_records(self._path(at))

    def _path(self, at: int | str) -> Path:
        return self.folder / (f"{at}.ckpt" if isinstance(at, str) else f"step-{at:09d}.ckpt")

    def _steps(self) -> list[int]:
        return sorted(
            int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.ckpt")
        )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, copied where they lie in memory that another one lies in."""
    places = Counter(
        tensor.untyped_storage().data_ptr() for tensor in tensors.values() if tensor.numel()
    )
    return {
        name: tensor.clone() if places[tensor.untyped_storage().data_ptr()] > 1 else tensor
        for name, tensor in tensors.items()
    }


def _tensor(value, path: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise _cannot_hold(value, path)
    return value


def _from_numpy(values: np.ndarray, path: str) -> Tensor:
    try:
        return torch.from_numpy(np.asarray(values, order="C"))
    except (TypeError, ValueError):
        raise _cannot_hold(values, path) from None


def _cannot_hold(value, path: str) -> ValueError:
    return ValueError(
        f"{path} is of type {type(value).__name__}, which a checkpoint cannot hold; "
        "it holds tensors, arrays, numbers, text and None, in dicts, lists and tuples"
    )


def _split(value, path: str, tensors: dict[str, Tensor]):
    """`value` as JSON, its tensors moved to `tensors` under their path in it.

    Raises ValueError if it cannot be.
    """
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": [path, value.stride()]}
    if isinstance(value, np.ndarray):
        tensors[path] = _from_numpy(value, path)
        return {"array": path}
    if isinstance(value, np.generic) and isinstance(value.item(), JSON_TYPES):
        # With its precision: 1 - float32(0.9) is another number than 1 - 0.9.
        return {"number": [value.dtype.str, value.item()]}
    if isinstance(value, dict):
        return {
            "dict": [
                [_key(key, path), _split(v, f"{path}/{key}", tensors)] for key, v in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        return {"list": [_split(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    if not isinstance(value, JSON_TYPES):
        raise _cannot_hold(value, path)
    return {"plain": value}


def _key(key, path: str):
    """A dict's key as JSON keeps it."""
    if not isinstance(key, JSON_TYPES):
        raise _cannot_hold(key, f"key {key!r} of {path}")
    return key


def _join(value: dict, tensors: dict[str, Tensor]):
    """What `_split` was given. Raises KeyError if a tensor is not there."""
    ((kind, content),) = value.items()
    if kind == "tensor":
        path, strides = content
        # In the layout it had: torch's fused optimizers pair parameter and state by their place in
        # memory.
        return torch.empty_strided(tensors[path].shape, strides, dtype=tensors[path].dtype).copy_(
            tensors[path]
        )
    if kind == "array":
        return tensors[content].numpy()
    if kind == "number":
        dtype, number = content
        return np.dtype(dtype).type(number)
    if kind == "dict":
        return {key: _join(item, tensors) for key, item in content}
    return [_join(item, tensors) for item in content] if kind == "list" else content
