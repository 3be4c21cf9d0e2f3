"""Evaluation is a plain mean over all images, whatever the chunk."""

import pytest
import torch
from torch.nn import functional

from replicate.models import resnet8
from replicate.training import evaluate

X = torch.randn(70, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 4, (70,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chunk", [1, 32, 70, 1000])
def test_loss_and_top1_are_means_over_all_images(chunk):
    model = resnet8(4, 0, width=4)
    model.train()
    loss, top1 = evaluate(model, X, Y, chunk)
    assert model.training
    with torch.no_grad():
        outputs = model.eval()(X).double()
    assert loss == pytest.approx(float(functional.cross_entropy(outputs, Y)), rel=1e-6)
    assert top1 == float((outputs.argmax(1) == Y).double().mean())


def test_evaluation_changes_no_buffer():
    model = resnet8(4, 0, width=4)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    evaluate(model, X, Y)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
