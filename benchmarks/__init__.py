"""All of speed: a file per topic, what it is compared with (peers), and what was wanted (goals).

`python benchmarks [TOPIC ...]` checks that results are equal, then prints ratios. The topics in
`gpu/` are experiments too: `python -m replicate evidence --only speed` runs them and keeps tables.
"""
