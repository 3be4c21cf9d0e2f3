"""A checkpoint is one safetensors file with a checksum behind it, written whole or not at all."""

import hashlib
import json
from pathlib import Path

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


def save_tensor_file(path: Path, tensors: dict[str, Tensor], about: dict | None = None) -> None:
    """Write named tensors and a JSON-able dict. Raises DiskFull; an older file at `path` is then still there."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    body = save_tensors(plain, metadata={"about": json.dumps(about or {}, sort_keys=True)})
    write_atomic(path, body + MAGIC + hashlib.sha256(body).digest())


def load_tensor_file(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the dict of `save_tensor_file`. Raises Missing, or BadData if any byte has changed."""
    if not path.exists():
        raise Missing(f"checkpoint {path} is not there")
    content = path.read_bytes()
    body, magic, digest = content[: -DIGEST - len(MAGIC)], content[-DIGEST - len(MAGIC) : -DIGEST], content[-DIGEST:]
    if magic != MAGIC:
        raise BadData(f"{path} is not a whole checkpoint (cut short or another kind of file, {len(content)} bytes)")
    if hashlib.sha256(body).digest() != digest:
        raise BadData(f"{path} fails its checksum (bytes changed after it was written)")
    try:
        tensors = load_tensors(body)
        length = int.from_bytes(body[:8], "little")
        about = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["about"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadData(f"{path} is damaged or was written by another program ({type(error).__name__})") from None
    return tensors, about


def save_state(path: Path, state: State) -> None:
    """Write model (buffers included), optimizer and step. Averages are not part of it.

    The optimizer is what its `state_dict` says, nested as it may be, so any torch optimizer can be saved.
    """
    if state.averages:
        raise ValueError(f"averages must be finished before a state is saved, got {len(state.averages)} open ones")
    tensors = {f"model/{name}": t for name, t in state.model.state_dict().items()}
    optimizer = _split(state.optimizer.state_dict(), "optimizer", tensors)
    save_tensor_file(path, tensors, {"step": state.step, "optimizer": optimizer})


@torch.no_grad()
def load_state(path: Path, state: State) -> State:
    """Fill the model and optimizer of `state` with what `save_state` wrote; returns it with the step of the file.

    Raises Missing or BadData, also if the file belongs to another model or optimizer; the model is then unchanged.
    """
    tensors, about = load_tensor_file(path)
    model = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
    own = state.model.state_dict()
    if {n: t.shape for n, t in model.items()} != {n: t.shape for n, t in own.items()}:
        raise BadData(f"{path} holds another model than the one asked for")
    try:
        state.optimizer.load_state_dict(_joined(about["optimizer"], tensors))
    except (KeyError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise BadData(f"{path} holds another optimizer than the one asked for ({line})") from None
    state.model.load_state_dict(model)
    return State(state.model, state.optimizer, state.averages, about["step"])


def _split(value, path: str, tensors: dict[str, Tensor]):
    """`value` as JSON, its tensors moved to `tensors` under their path in it."""
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": [path, value.stride()]}
    if isinstance(value, dict):
        return {"dict": [[key, _split(one, f"{path}/{key}", tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_split(one, f"{path}/{i}", tensors) for i, one in enumerate(value)]}
    return {"plain": value}


def _joined(value: dict, tensors: dict[str, Tensor]):
    """What `_split` was given. Raises KeyError if a tensor is not there."""
    ((kind, content),) = value.items()
    if kind == "tensor":
        path, strides = content
        # In the layout it had: torch's fused optimizers pair parameter and state by their place in memory.
        return torch.empty_strided(tensors[path].shape, strides, dtype=tensors[path].dtype).copy_(tensors[path])
    if kind == "dict":
        return {key: _joined(one, tensors) for key, one in content}
    return [_joined(one, tensors) for one in content] if kind == "list" else content
