"""All methods in one view: each replaces the last gradient, or the last weights, by a weighted sum of past ones.

No source says so. Momentum, Nesterov's momentum, extrapolation, Lookahead and averages as filters on
past gradients, side by side: what each makes of one gradient, which frequencies it lets through, how
much noise it leaves at the same pace, up to which rate it stands, and which of them are one. Then all of
them on one task, after equal trials, by gradients, forward passes and modelled seconds.
"""

TITLE = "All methods in one view: filters on past gradients (ours, across the four sources)"
COST = """The filter view is linear algebra on matrices of at most some dozens of rows, the same at every
preset, and takes seconds of a CPU. The task trains 15 methods at 7 rates on 8 seeds, for 400 steps of a
perceptron on digits at `cpu` (three minutes of two cores, half of it the two walks and their checks) and
1000 steps of ResNet-8 on CIFAR-10 at `night`."""
