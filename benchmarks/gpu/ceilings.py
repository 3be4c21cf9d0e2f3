"""What the device can do at best: products of matrices, and copies in its memory."""

import pandas as pd
import torch

from benchmarks.gpu.settings import Settings
from benchmarks.harness import Row, make_frame
from replicate import runs
from replicate.app.stages import matrix_rate
from replicate.numerics import clock
from replicate.sources.protocol import Evidence, experiment

KINDS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@experiment(evidence={"synthetic": Evidence(100, "what the device can do at best")})
def ceilings(settings: Settings) -> pd.DataFrame:
    """Rates of products and of copies. Columns: those of `harness.COLUMNS`."""
    device = runs.device()
    rows = []
    for name, kind in KINDS.items():
        rate = matrix_rate(device, settings.matrix, kind)
        rows.append(Row("", f"products of matrices, {name}", "operations/s", [rate]))
    return make_frame([*rows, Row("", "copy", "bytes/s", [copy_rate(device, settings.copied)])])


def copy_rate(device: str, size: int) -> float:
    """Bytes per second, read and written, of a copy of `size` bytes; the best of five."""
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return 2.0 * size / clock({"copy": lambda: target.copy_(source)}, 5, device)["copy"].min()
