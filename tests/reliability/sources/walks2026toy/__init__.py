"""A source made for tests: random walks that are saved after every step and go on where they were."""

TITLE = "Walks of a test"
COST = "Nothing."
