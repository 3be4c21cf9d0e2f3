"""What an experiment on networks says it will cost is what it trains on: images, counted as they pass."""

from dataclasses import replace

import pytest
import torch

from replicate import paths
from replicate.sources.fabi2021extrapolation import _networks
from replicate.sources.fabi2021extrapolation.presets import PRESETS
from replicate.sources.protocol import Source

SOURCE = Source("fabi2021extrapolation")
SETTINGS = replace(
    PRESETS["smoke"]["digits"], width=8, steps=12, seeds=(0, 1), batches=(16, 256), rates=(0.002, 0.01),
    arms=("plain", "double", "every=3"), searched=("plain",), rows=2, curve_images=32,
)  # fmt: skip
WARM = min(
    _networks.WARM_STEPS, SETTINGS.steps
)  # steps before the clocks run, which no cost counts


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A list of the sizes of the mini-batches that a gradient is taken of."""
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    monkeypatch.setattr(_networks, "operations_per_step", lambda settings: 1.0)
    sizes = []

    def look(layer, inputs, output):
        if isinstance(layer, torch.nn.Linear) and output.shape[1] == 10 and torch.is_grad_enabled():
            sizes.append(len(output))

    hook = torch.nn.modules.module.register_module_forward_hook(look)
    yield sizes
    hook.remove()


@pytest.mark.parametrize(
    ("name", "warm"),
    [
        ("networks", WARM * SETTINGS.batch),
        ("rate_curves", WARM * SETTINGS.batch),
        ("batch_sizes", WARM * sum(SETTINGS.batches)),
        ("resolution", 0),
    ],
)
def test_the_cost_is_the_images_that_are_trained_on(trained, name, warm):
    SOURCE[name](SETTINGS)
    expected = SOURCE[name].operations(SETTINGS)
    assert expected > 0 and sum(trained) == expected + len(SETTINGS.seeds) * warm
