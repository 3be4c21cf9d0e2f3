"""Random numbers are functions of (seed, use, index, stream) and of nothing else."""

import numpy as np
import pytest

from replicate.streams import USES, rng


def test_the_numbers_are_those_of_philox_with_the_documented_key_and_counter():
    key = np.array([7 + 2**32 * 3, USES.index("order")], dtype=np.uint64)
    counter = np.array([0, 0, 0, 11], dtype=np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key, counter=counter)).random(5)
    assert np.array_equal(rng(7, "order", 11, stream=3).random(5), expected)


@pytest.mark.parametrize("change", [{"seed": 8}, {"use": "noise"}, {"index": 12}, {"stream": 4}])
def test_each_argument_gives_other_numbers(change):
    arguments = {"seed": 7, "use": "order", "index": 11, "stream": 3}
    assert not np.array_equal(rng(**arguments).random(5), rng(**(arguments | change)).random(5))


def test_seed_and_stream_do_not_run_into_each_other():
    assert not np.array_equal(
        rng(0, "init", 0, stream=1).random(4), rng(1, "init", 0, stream=0).random(4)
    )


def test_uses_keep_their_numbers_because_recorded_results_depend_on_them():
    assert USES[:7] == ("init", "order", "augment", "noise", "dropout", "eval", "bootstrap")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2**32}, "seed must be in [0, 2^32), got 4294967296"),
        ({"seed": -1}, "seed must be in [0, 2^32), got -1"),
        ({"stream": 2**32}, "stream must be in"),
        ({"index": -1}, "index must be at least 0, got -1"),
        ({"use": "noize"}, "did you mean 'noise'"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError) as refusal:
        rng(**({"seed": 0, "use": "init", "index": 0} | change))
    assert message in str(refusal.value)
