# `make` lists the targets. The first one that needs it makes .venv, which takes python3 (3.11 or newer, with venv) and make.
SHELL := bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
NAME := cifar10

# A misspelt variable would be ignored without a word, and the wrong thing computed for hours.
GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v)))
UNKNOWN := $(filter-out PRESET ONLY SET NAME PYTHON REPLICATE_% PIP_% UV_%,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error unknown variable $(UNKNOWN); known: PRESET ONLY SET NAME PYTHON, and the environment's REPLICATE_*)
endif

# uv does not read PIP_FIND_LINKS. Where pip was told of a folder of wheels, uv is told of it too; elsewhere nothing is set.
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
export JUPYTER_PREFER_ENV_PATH := 1

# Each kernel and each worker would compile torch, jax and sklearn anew: 20 seconds a process.
unexport PYTHONDONTWRITEBYTECODE

# A kernel starts in notebooks/: a relative folder is the caller's. (`~` is expanded where it is read.)
ifneq ($(REPLICATE_DATA),)
ifeq ($(filter /% ~%,$(firstword $(REPLICATE_DATA))),)
override REPLICATE_DATA := $(CURDIR)/$(REPLICATE_DATA)
export REPLICATE_DATA
endif
endif

# The extras that replicate and test need, as in environment.yml; the lock has those of rarer uses too.
EXTRAS := sources notebooks test report browser keras text cluster
LOCKED := $(EXTRAS)
UV_INSTALL := $(BIN)/uv pip install --python $(BIN)/python $(if $(MAKE_TERMOUT),,--quiet)
COLOUR := $(if $(MAKE_TERMOUT),$(if $(NO_COLOR),,yes))
NBVAL := --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
  --nbval-cell-timeout 300 --nbval-kernel-startup-timeout 180

.PHONY: help env replicate test test-long test-gpu lab report data bench record readme refresh lock clean

help: ## list the targets (what make does without words)
	@awk -F ':.*## ' -v on='$(if $(COLOUR),\033[36m)' -v off='$(if $(COLOUR),\033[0m)' \
	  '/^[a-z-]+:.*## / {printf "  %smake %-10s%s %s\n", on, $$1, off, $$2}' $(firstword $(MAKEFILE_LIST))

env: .venv/.done ## make .venv, versions by requirements.lock (every other target does it by itself)

# The stamp is written last, so that a .venv without it is half made, and is begun anew.
.venv/.done: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info < (3, 11) and sys.exit( \
	  "replicate needs Python 3.11 or newer; $(PYTHON) is " + v + ". Name another one: make env PYTHON=python3.12")'
	@echo "making .venv, a few minutes where the packages have to be fetched"
	@$(PYTHON) -m venv $(if $(wildcard $@),,--clear) .venv
	@rm -f $@
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV_INSTALL) -r pyproject.toml $(EXTRAS:%=--extra %) --constraint requirements.lock
	@$(UV_INSTALL) --no-deps -e .
	@touch $@

replicate: env ## run the sources and judge their claims [PRESET=smoke|cpu|gpu|paper ONLY=source SET="k=v k=v"]
	@$(BIN)/python -m replicate replicate $(if $(PRESET),--preset '$(PRESET)') $(if $(ONLY),--only '$(ONLY)') \
	  $(foreach pair,$(SET),--set '$(pair)')

test: env ## unit tests, notebooks against their stored outputs, JupyterLab in a browser
	@TQDM_DISABLE=1 REPLICATE_JOBS=1 OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false \
	  $(BIN)/python -m pytest -q --color=no -n 2 --dist loadfile -m "not long" tests notebooks $(NBVAL)

test-long: env ## the tests that take minutes
	@TQDM_DISABLE=1 $(BIN)/python -m pytest -q --color=no -m long tests

test-gpu: env ## what CUDA alone can test, and every experiment at a tiny size [REPLICATE_DEVICE=cpu rehearses it]
	@TQDM_DISABLE=1 REPLICATE_JOBS=1 OMP_NUM_THREADS=1 REPLICATE_DEVICE=$(or $(REPLICATE_DEVICE),cuda) \
	  $(BIN)/python -m pytest -q --color=no --durations=5 -m gpu tests

lab: env ## open JupyterLab on notebooks/
	@$(BIN)/python -m jupyterlab notebooks

report: env ## the verdicts and notebooks as a web page, in build/report/
	@$(BIN)/python -m replicate report

data: env ## fetch and verify a data set [NAME=cifar10]
	@$(BIN)/python -m replicate data fetch '$(NAME)'

bench: env ## ratios of speed against peers, in build/bench/ [ONLY=topic]
	@$(BIN)/python benchmarks $(ONLY)

record: env ## copy what a clean tree produced to data/results/
	@$(BIN)/python -m replicate record

readme: env ## render README's tables from data/results/
	@$(BIN)/python -m replicate readme

refresh: env ## run the notebooks in place at smoke: new stored outputs, for make test to compare with
	@TQDM_DISABLE=1 $(BIN)/python -m replicate refresh

lock: env ## pin every dependency but torch in requirements.lock (needs the network)
	@$(BIN)/uv pip compile --quiet pyproject.toml $(LOCKED:%=--extra %) \
	  --override lock-override.txt --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command "make lock" -o requirements.lock

clean: ## delete build/ with all runs in it, and caches; .venv and data/ stay
	@rm -rf build .pytest_cache .ruff_cache .hypothesis
	@find src tests notebooks benchmarks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} + \
	  2>/dev/null || true
