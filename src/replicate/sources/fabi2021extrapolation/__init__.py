"""Fabi (2021). Weight Extrapolation. Draft of a post; its published version has other experiments.

Extrapolating the weights between steps by a Taylor series whose derivatives come from past
gradients: the derivations line by line, the published post's figures on toy functions, the draft's
comparison on networks, and the controls that neither has: a plain gradient step of the same length,
a larger rate, heavy ball, and rates chosen for every arm.
"""

TITLE = "Weight extrapolation with Taylor series and finite differences (Fabi 2021)"
COST = """Imagewoof at 224 px must be placed by hand; no experiment here reads it yet. Estimated from floors, not
measured: 20 epochs of its 9025 images on ResNet-18 at 224 px are 2e15 floating-point operations per run,
minutes of one GPU, and the arms and five seeds some 30 such runs. At 64 px preset `night` reads it: a step of
its ResNet-8 is 0.25 s of a core without AMX, all seeds 21 hours of one core, 10 of two."""
