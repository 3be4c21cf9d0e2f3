"""All methods in one view: each replaces the last gradient, or the last weights, by a weighted sum of past ones.

No source says so. Momentum, Nesterov's momentum, extrapolation, Lookahead and averages as filters on
past gradients, side by side: what each makes of one gradient, which frequencies it lets through, how
much noise it leaves at the same pace, up to which rate it stands, and which of them are one.
"""

TITLE = "All methods in one view: filters on past gradients (ours, across the four sources)"
COST = """Linear algebra on matrices of at most some dozens of rows; the filter view is the same at every preset
and takes seconds of a CPU."""
