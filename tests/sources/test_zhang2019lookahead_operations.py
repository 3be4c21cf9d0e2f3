"""What an experiment on images says that it costs, beside what torch counts while it runs."""

from dataclasses import replace

import pytest
from torch.utils.flop_counter import FlopCounterMode

from replicate import paths
from replicate.sources.protocol import Source
from replicate.sources.zhang2019lookahead.presets import PRESETS, tiny

SOURCE = Source("zhang2019lookahead")
SMALL = replace(tiny(PRESETS["cpu"]["digits"]), seeds=(0,), nets=("batch norm", "group norm"))
COUNTING = [name for name in SOURCE if SOURCE[name].operations]


@pytest.mark.parametrize("name", COUNTING)
def test_the_cost_is_what_torch_counts(name, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setenv("REPLICATE_JOBS", "1")
    with FlopCounterMode(display=False) as counter:
        SOURCE[name](SMALL)
    assert counter.get_total_flops() == pytest.approx(SOURCE[name].operations(SMALL), rel=1e-12)


def test_every_stage_on_images_tells_its_hours():
    stages = [each for name in SOURCE if (each := SOURCE[name]).night and each.needs_data]
    texts = {"language_model", "translation"}
    assert {each.name for each in stages} == {*COUNTING} | texts
