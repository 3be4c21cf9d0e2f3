"""Would averaging weights do for a model what a cool-down does? Asked of a reader's own model.

    ratio = (L(raw) - L(average)) / (L(raw) - L(cool-down))

raw: where the rate stayed as it was; average: sum_j mu_j theta_{t1+j} of that very run; cool-down:
the run that leaves it at t1 with the rate times `kernel_weights(mu)`, on the same mini-batches.
Sandler et al. 2023, Table 1, say that the ratio is 1. It is `replicate.compare` in Python; the
command `replicate compare` is another thing, and holds two folders of records against each other.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.cooldown.comparison import Comparison
    from replicate.cooldown.recipe import load_kernel, load_recipe
    from replicate.cooldown.study import compare

lazy.attach(__name__)
