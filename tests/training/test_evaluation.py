"""Evaluation is a plain mean over all images, whatever the chunk."""

import doctest

import pytest
import torch
from torch import nn
from torch.nn import functional

from replicate.averaging import recompute_batch_norm
from replicate.models import mlp, resnet8
from replicate.training import Evaluator, evaluate, evaluation, flat_weights, load_flat
from replicate.training.evaluation import METRICS, count_correct

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


def frozen():
    """In training mode but for one frozen layer."""
    model = resnet8(4, 0, width=4).train()
    model.layer2.eval()
    return model


def modes(model):
    return [layer.training for layer in model.modules()]


@pytest.mark.parametrize("labels", [Y, Y - 4])
def test_every_layers_mode_is_what_it_was_after_an_error_too(labels):
    """Labels below zero are refused by torch, in the middle of the evaluation."""
    model = frozen()
    before = modes(model)
    try:
        evaluate(model, X, labels)
    except (IndexError, RuntimeError):
        assert labels is not Y
    assert modes(model) == before


def test_no_images_and_labels_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match="images must hold at least one image to evaluate on, got none"
    ):
        evaluate(resnet8(4, 0, width=4), X[:0], Y[:0])
    with pytest.raises(ValueError, match="images and labels must be as many, got 70 and 69"):
        evaluate(resnet8(4, 0, width=4), X, Y[:-1])


# The evaluator.

BATCHES = [X[:32], X[32:64]]
SETS = {"train": (X[:50], Y[:50]), "test": (X[50:], Y[50:])}


def moved(model, seed=1):
    """Weights some way from the model's own."""
    noise = torch.randn(len(flat_weights(model)), generator=torch.Generator().manual_seed(seed))
    return flat_weights(model) + 0.05 * noise


def test_an_evaluator_is_the_three_calls_written_out():
    model = resnet8(4, 0, width=4)
    evaluator = Evaluator(model, SETS, BATCHES, recompute_batch_norm)
    for seed in (1, 2):
        weights, plain = moved(model, seed), resnet8(4, 5, width=4)
        load_flat(plain, weights)
        recompute_batch_norm(plain, BATCHES)
        expected = {f"{name}_loss": evaluate(plain, *data)[0] for name, data in SETS.items()}
        expected |= {f"{name}_top1": evaluate(plain, *data)[1] for name, data in SETS.items()}
        assert evaluator(weights) == expected


def test_the_order_in_which_weights_are_evaluated_is_no_matter_and_stale_statistics_would_be():
    model = resnet8(4, 0, width=4)
    evaluator, weights = Evaluator(model, SETS, BATCHES, recompute_batch_norm), moved(model)
    first = evaluator(weights)
    assert evaluator(moved(model, 2)) != first and evaluator(weights) == first
    load_flat(model, weights)
    assert abs(evaluate(model, *SETS["test"])[0] - first["test_loss"]) > 1e-2  # the dull thing


@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_the_model_is_as_it_was_afterwards(given, error):
    model = frozen()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    was = modes(model)
    sets = {"test": (X, Y - 4 if error else Y)}
    evaluator = Evaluator(model, sets, BATCHES, recompute_batch_norm)
    try:
        evaluator(moved(model) if given else None)
    except (IndexError, RuntimeError):
        assert error
    assert modes(model) == was
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_without_weights_it_is_the_models_own_that_count():
    model = resnet8(4, 0, width=4)
    evaluator = Evaluator(model, SETS, BATCHES, recompute_batch_norm)
    assert evaluator() == evaluator(flat_weights(model)) != evaluator(moved(model))


def test_columns_are_named_and_ordered_as_asked_and_nothing_else_is_computed():
    calls = []

    def counted(outputs, labels):
        calls.append(len(labels))
        return count_correct(outputs, labels)

    metrics = METRICS | {"top1": counted}
    columns = {"top1": ("test", "top1"), "train_loss": ("train", "loss")}
    found = Evaluator(
        resnet8(4, 0, width=4), SETS, BATCHES, recompute_batch_norm, metrics, columns
    )()
    assert list(found) == ["top1", "train_loss"] and calls == [20]


def test_any_loss_of_numbers_or_tokens_is_a_mean_over_its_labels():
    """A regression on two outputs, and a model of three tokens a row, by their means in float64."""
    x, y = torch.randn(9, 4), torch.randn(9, 2)
    model = nn.Linear(4, 2)
    squares = {"mse": lambda outputs, labels: functional.mse_loss(outputs, labels, reduction="sum")}
    expected = float(((model(x) - y).detach().double() ** 2).mean())
    assert Evaluator(model, {"test": (x, y)}, metrics=squares, chunk=4)() == {
        "test_mse": pytest.approx(expected, rel=1e-6)
    }
    tokens = torch.randint(0, 5, (9, 3))
    model = nn.Sequential(nn.Linear(4, 15), nn.Unflatten(1, (5, 3)))
    found = Evaluator(model, {"test": (x, tokens)}, chunk=4)()
    logits = model(x).detach().double()
    assert found["test_loss"] == pytest.approx(
        float(functional.cross_entropy(logits, tokens)), rel=1e-6
    )
    assert found["test_top1"] == float((logits.argmax(1) == tokens).double().mean())


def test_what_does_not_go_together_is_refused():
    model = resnet8(4, 0, width=4)
    with pytest.raises(
        ValueError, match="re_estimate must be given with batches, got 2 batches alone"
    ):
        Evaluator(model, SETS, BATCHES)
    with pytest.raises(ValueError, match="re_estimate must be given for a model with BatchNorm"):
        Evaluator(model, SETS)
    with pytest.raises(
        ValueError, match="column 'x' must be of a set and a metric, got 'valid' and 'loss'"
    ):
        Evaluator(nn.Linear(1, 1), SETS, columns={"x": ("valid", "loss")})
    assert Evaluator(
        mlp(192, (8,), 4, 0), SETS, [], recompute_batch_norm
    )()  # no BatchNorm, nothing to estimate


def test_examples_give_what_they_say():
    found = doctest.testmod(evaluation)
    assert found.attempted > 0 and found.failed == 0
