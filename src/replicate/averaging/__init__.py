"""Any average of iterates is a learning-rate schedule, if the gradients stay what they were.

    sum_j mu_j theta_{t1+j} = theta_t1 + sum_t w_t (theta_{t1+t+1} - theta_{t1+t})
    w_t = sum_{j > t} mu_j

mu is the kernel (`mu`, k + 1 weights on theta_t1 .. theta_{t1+k}, sum 1), w its tail sums
(`kernel_weights`), and lambda(i) w_{i - t1} the schedule that leads to the average if every
gradient stays the same (`equivalent_schedule`). Sandler et al. 2023, Table 1 and Lemma 2, are three
choices of mu.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.averaging.batch_norm import recompute_batch_norm
    from replicate.averaging.equivalence import (
        buffer_factor,
        equivalent_schedule,
        inside_weights,
    )
    from replicate.averaging.kernels import (
        KernelSchedule,
        ema,
        kernel_weights,
        swa,
        two_point,
    )
    from replicate.averaging.rows import average_rows
    from replicate.averaging.running import KernelAverages
    from replicate.averaging.scheduler import EquivalentLR
    from replicate.averaging.tail import TailMean

lazy.attach(__name__)
