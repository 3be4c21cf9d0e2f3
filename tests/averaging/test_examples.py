"""Every public name of the package has an example, and every example gives what it says."""

import doctest

import pytest

from replicate import averaging
from replicate.averaging import batch_norm, kernels, running, scheduler


@pytest.mark.parametrize(
    "module", [batch_norm, kernels, running, scheduler], ids=lambda module: module.__name__
)
def test_examples_give_what_they_say(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", averaging.__all__)
def test_every_public_name_has_an_example(name):
    assert ">>> " in getattr(averaging, name).__doc__
