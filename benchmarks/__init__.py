"""All of speed: what is measured (a file per topic), against what (peers), and what was wanted (goals).

`python benchmarks [TOPIC ...]` checks that results are equal, then prints ratios. The topics in
`gpu/` are experiments too: `python -m replicate evidence --only speed` runs them and keeps tables.
"""
