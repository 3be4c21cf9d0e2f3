"""Statistics are means over the batches, and nothing else of a model is changed."""

import copy

import pytest
import torch
from torch import nn

from replicate.averaging import recompute_batch_norm


def test_batch_norm_is_re_estimated_as_equal_weight_means_over_the_batches():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.0))
    batches = [torch.randn(16, 4, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    model(batches[0] * 9)  # statistics that belong to something else
    model.eval()
    recompute_batch_norm(model, batches)
    with torch.no_grad():
        inner = torch.stack([model[0](batch).double() for batch in batches])
    assert torch.allclose(model[1].running_mean.double(), inner.mean((0, 1)), atol=1e-6)
    assert torch.allclose(model[1].running_var.double(), inner.var(1).mean(0), atol=1e-5)
    assert not model.training and model[1].momentum == 0.1


def test_a_model_without_batch_norm_is_left_alone():
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    recompute_batch_norm(model, [torch.full((4, 2), torch.nan)])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def frozen_in_training():
    """A model in training mode whose first BatchNorm was put into evaluation mode, as for
    fine-tuning.
    """
    model = nn.Sequential(
        nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.3))
    )
    model.train()
    model[0].eval()
    model[1][0].eval()
    return model


def modes(model):
    return [layer.training for layer in model.modules()]


BATCHES = [torch.randn(8, 3, generator=torch.Generator().manual_seed(i)) + 2 for i in range(3)]


def test_a_frozen_layer_keeps_its_mode_and_its_statistics_and_the_others_are_estimated():
    model = frozen_in_training()
    model[0].running_mean.fill_(7.0)
    before = modes(model)
    recompute_batch_norm(model, BATCHES)
    assert modes(model) == before and model[0].running_mean.tolist() == [7.0] * 3
    assert model[0].num_batches_tracked == 0 and model[1][1].num_batches_tracked == 3
    # The frozen layer normalises with its own statistics, and the frozen dropout drops nothing.
    inner = torch.stack([(batch - 7) / (1 + 1e-5) ** 0.5 for batch in BATCHES])
    torch.testing.assert_close(model[1][1].running_mean, inner.mean((0, 1)))


def test_in_a_model_in_evaluation_mode_every_layer_is_estimated():
    model = frozen_in_training().eval()
    recompute_batch_norm(model, BATCHES)
    assert (
        not any(modes(model))
        and model[0].num_batches_tracked == model[1][1].num_batches_tracked == 3
    )


@pytest.mark.parametrize("training", [False, True])
def test_after_an_error_modes_momenta_and_statistics_are_what_they_were(training):
    def broken():
        yield BATCHES[0]
        raise OSError("loader broke")

    model = frozen_in_training()
    if not training:
        model.eval()
    before, was = copy.deepcopy(model.state_dict()), modes(model)
    with pytest.raises(OSError, match="loader broke"):
        recompute_batch_norm(model, broken())
    assert modes(model) == was and (model[0].momentum, model[1][1].momentum) == (0.1, 0.3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "batches, message",
    [
        ([], "batches must hold at least one batch to re-estimate BatchNorm on, got none"),
        (iter(()), "batches must hold at least one batch to re-estimate BatchNorm on, got none"),
        (
            [BATCHES[0], torch.zeros(0, 3)],
            "batches must hold images to re-estimate BatchNorm on, got none in batch 2",
        ),
    ],
)
def test_no_batches_and_no_images_are_named_and_change_nothing(batches, message):
    model = frozen_in_training()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        recompute_batch_norm(model, batches)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_data_loaders_pairs_of_images_and_labels_are_taken_as_torchs_own_function_takes_them():
    ours, peer = (nn.Sequential(nn.BatchNorm1d(3)) for _ in range(2))
    pairs = [(batch, torch.zeros(8)) for batch in BATCHES]
    recompute_batch_norm(ours, pairs)
    torch.optim.swa_utils.update_bn(pairs, peer)
    assert all(
        torch.equal(peer.state_dict()[name], value) for name, value in ours.state_dict().items()
    )


def test_a_layer_that_keeps_no_statistics_is_left_alone():
    model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
    recompute_batch_norm(model, [])
    assert model[0].running_mean is None and model[0].momentum == 0.1
