"""Ratios of CPU time between variants of one job that take turns in one process: a busy machine slows all alike."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from replicate import runs

ROUNDS = 9  # odd, so that the median is a round that was measured


def ratios(jobs: Mapping[str, Callable[[], None]], rounds: int = ROUNDS) -> dict[str, np.ndarray]:
    """CPU time of every job over that of the last one, (rounds,) each; one thread, one round to warm up first."""
    torch.set_num_threads(1)
    seconds = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            seconds[name].append(time.process_time() - start)
    own = np.array(seconds[list(jobs)[-1]][1:])
    return {name: np.array(taken[1:]) / own for name, taken in seconds.items()}


def table(title: str, found: Mapping[str, np.ndarray]) -> str:
    """A line a job: median of the rounds' ratios, and the smallest and largest round."""
    (commit, dirty), device = runs.commit(), runs.device_name("cpu")
    where = f"{device}, torch {torch.__version__}, commit {commit}{'+' * dirty}"
    lines = [f"{title}; CPU time over that of the last line, one thread; {where}"]
    for name, one in found.items():
        lines.append(f"  {name:44} {np.median(one):6.2f}   rounds {one.min():.2f} to {one.max():.2f}")
    return "\n".join(lines)
