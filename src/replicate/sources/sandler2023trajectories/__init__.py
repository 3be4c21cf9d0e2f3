"""Sandler, Zhmoginov, Vladymyrov, Miller (2023). Training trajectories, mini-batch losses and the
curious role of the learning rate. arXiv:2301.02312.

Averaging iterates and lowering the learning rate lead to the same loss: Table 1, Lemma 2, Figures 1
and 5, measured by side-trips that leave a main run under the schedule that an average calls for.
Section 4, Appendix A and Figures 4, 9 and 11 follow exact moments, with simulated runs beside them.
The single-batch figures have no experiment yet.
"""

TITLE = "Training trajectories, mini-batch losses and the curious role of the learning rate (Sandler et al. 2023)"
COST = """ImageNet at 224 px is made by hand: python -m replicate data shard imagenet TREE. Its pixels, 200 GB, have to fit into memory. Estimated from floors, not measured:
100 000 steps of 512 images on ResNet-34 are 1.1e18 floating-point operations, 0.4 to 2 hours of one H200 per run, and
three seeds with eight branch points, all side-trips and controls about six such runs each."""
