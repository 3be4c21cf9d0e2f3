"""Four papers on the trajectories of stochastic gradient descent, every claim measured and judged."""
