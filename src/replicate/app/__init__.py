"""What composes the rest: the registry of sources, settings, judging, notebooks, README, report,
stages, commands.
"""
