"""Zhang, Lucas, Hinton, Ba (2019). Lookahead Optimizer: k steps forward, 1 step back. NeurIPS 2019.

The slides of the paper (arXiv:1907.08610): Algorithm 1, the noisy quadratic with Proposition 2, the
figures on fast and slow weights, language and translation, and the controls that they lack: a decayed
rate, an average that is only looked at, and SGD at the matched rate.
"""

TITLE = "Lookahead Optimizer: k steps forward, 1 step back (Zhang, Lucas, Hinton, Ba 2019)"
COST = """Table 1 as printed is 200 epochs of ResNet-18 on CIFAR-10 and on CIFAR-100, four optimizers, three seeds
and their grids of rates. Estimated from floors, not measured: one run is an hour of one GPU. The 0.04 points
between Lookahead and SGD on CIFAR-10 need some 195 seeds an arm. One of the 105 runs of 750 epochs on the Penn
Treebank is some two hours of one GPU. Multi30k stands in for WMT14. ImageNet is made by hand: python -m replicate data shard imagenet TREE. Its
twenty runs of ResNet-50 are 47 EFLOP, those of ResNet-152 133."""
