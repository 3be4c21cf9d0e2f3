#!/bin/sh
# One run on all GPUs of one node, started anew after a lost rank: sh docs/scale/node.sh SOURCE EXPERIMENT PRESET
# RANKS is the number of GPUs, or of processes with REPLICATE_DEVICE=cpu.
exec "${PYTHON:-.venv/bin/python}" -m torch.distributed.run --standalone --nproc-per-node "${RANKS:-8}" --max-restarts 3 \
  -m replicate run "$1" "$2" --preset "${3:-gpu}"
