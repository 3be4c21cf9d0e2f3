"""Fabi (2021). Weight Extrapolation. Draft of a post; its published version has other experiments.

Extrapolating the weights between steps by a Taylor series whose derivatives come from past
gradients: the derivations line by line, the published post's figures on toy functions, the draft's
comparison on networks, and the controls that neither has: a plain gradient step of the same length,
a larger rate, heavy ball, and rates chosen for every arm.
"""

TITLE = "Weight extrapolation with Taylor series and finite differences (Fabi 2021)"
COST = """Imagewoof at 224 px must be placed by hand; no experiment here reads it yet. Estimated from floors, not
measured: 20 epochs of its 9025 images on ResNet-18 at 224 px are 2e15 floating-point operations per run,
minutes of one GPU, and the arms, the grid of rates and five seeds some 60 such runs."""
