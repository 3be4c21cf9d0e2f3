"""One progress bar that is right everywhere: a widget in JupyterLab, text in a terminal, nothing in stored outputs."""

import os
import sys
from collections.abc import Iterable


def progress(iterable: Iterable, description: str, total: int | None = None) -> Iterable:
    """`iterable` with a bar; without one where TQDM_DISABLE is set or nobody looks at a terminal."""
    # tqdm.auto stores an empty widget in a notebook even when TQDM_DISABLE is set, so the bar is not made at all.
    if os.environ.get("TQDM_DISABLE", "0") not in ("", "0"):
        return iterable
    if "ipykernel" not in sys.modules and not sys.stderr.isatty():
        return iterable
    from tqdm.auto import tqdm

    return tqdm(iterable, desc=description, total=total, dynamic_ncols=True)
