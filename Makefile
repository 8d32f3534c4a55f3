# Every target builds the virtual environment on first use and re-uses it afterwards.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# make benchmark: ENV is required, the rest has defaults in benchmarks/protocols.yml
ENV ?=
ALGOS ?=
SEEDS ?=
STEPS ?=
WORKERS ?=
BUDGET ?= short
OUT ?= runs
ARGS ?=
# make compare: folders of runs, or one algorithm of a folder as in BASE=runs:dqn
BASE ?=
CANDIDATE ?= runs
# make speed: all cases by default; `make speed ARGS=--help` tells them
CASES ?=
ROUNDS ?=

.PHONY: help install test test-harness test-learning sb3-suite docs stubs lint format benchmark report leaderboard compare speed clean

help:  ## this list
	@echo "make benchmark ENV=Hopper-v4   [ALGOS=msac,sac SEEDS=5 STEPS=30000 WORKERS=2 BUDGET=smoke|short|full OUT=runs ARGS='--dry-run']"
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## *' '{ printf "make %-16s %s\n", $$1, $$2 }'

install: $(READY)  ## build the virtual environment

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "sb3_entropic needs Python 3.10 or newer: name one with PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mujoco,box2d,minatar,atari,benchmark,dev]'
	@touch $@

test: $(READY)  ## the tests, under 10 minutes on two cores
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not learning and not harness"

test-harness: $(READY)  ## the slow tests of the harness: killed grids, Ray, rl_zoo3, and the page in Chromium where it is installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray,zoo]'
	$(BIN)/python -m pytest -m harness
	$(BIN)/python -m pytest tests/test_rl_zoo3.py

test-learning: $(READY)  ## the tests that train to a score, longer
	$(BIN)/python -m pytest -n auto -m learning

sb3-suite: $(READY)  ## Stable-Baselines3's own tests, with our class in the place of its parent
	PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m tests.sb3_suite

docs: $(READY)  ## the reference, in docs/_build/index.html
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo "written: docs/_build/index.html"

stubs: $(READY)  ## what editors read of the constructors, in sb3_entropic/__init__.pyi
	$(BIN)/python -m tests.stubs

lint: $(READY)  ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(READY)  ## a seed grid and its leaderboard
	@test -n "$(ENV)" || { echo "error: name an environment, such as make benchmark ENV=Hopper-v4" >&2; exit 2; }
	@$(BIN)/python -m benchmarks run --env '$(ENV)' --budget '$(BUDGET)' --out '$(OUT)' \
	  $(if $(ALGOS),--algos '$(ALGOS)') $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(STEPS),--steps '$(STEPS)') \
	  $(if $(WORKERS),--workers '$(WORKERS)') $(ARGS)

report: $(READY)  ## the leaderboards of every run in OUT
	@$(BIN)/python -m benchmarks report --out '$(OUT)' $(if $(ENV),--env '$(ENV)') $(ARGS)

leaderboard: $(READY)  ## tables, figures and the page of everything in results/
	@$(BIN)/python -m benchmarks leaderboard $(ARGS)

compare: $(READY)  ## did runs get worse? BASE=before [CANDIDATE=runs ARGS='--threshold 0.05 --out comparison']
	@test -n "$(BASE)" || { echo "error: name what to compare with, such as make compare BASE=runs-before CANDIDATE=runs" >&2; exit 2; }
	@$(BIN)/python -m benchmarks compare '$(BASE)' '$(CANDIDATE)' $(ARGS)

speed: $(READY)  ## training speed beside Stable-Baselines3's [CASES=msac-hopper,scaling ROUNDS=5 STEPS=2000]
	@$(BIN)/python -m benchmarks speed $(if $(CASES),--cases '$(CASES)') $(if $(ROUNDS),--rounds '$(ROUNDS)') \
	  $(if $(STEPS),--steps '$(STEPS)') $(ARGS)

clean:  ## delete the virtual environment and caches, never runs
	rm -rf $(VENV) docs/_build .cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info MUJOCO_LOG.TXT
	find . -name __pycache__ -prune -exec rm -rf {} +
