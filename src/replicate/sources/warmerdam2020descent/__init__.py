"""Vincent Warmerdam (2020). More Descent, Less Gradient. koaning.io, April 2020.

A gradient costs more than an update, so the post takes more of each gradient: by Newton's method on a
regression, by walking on along one direction until the loss rises (KeepStepping), by a step length
from finite differences (KeepVaulting). The printed code has a sign error and an inverted formula,
so every claim about it is judged on the code as printed and as meant. The pictures of the figures
are lost; what is judged is what the prose says of them.
"""

TITLE = "More Descent, Less Gradient (Warmerdam 2020)"
COST = """The post's own settings are small: all of it is preset cpu, half an hour of one core, but for
Figure 12, which has five seeds there and at ten seeds with every arm takes an hour."""
