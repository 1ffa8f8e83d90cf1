# Two commands matter: `make book` and `make test`. `make help` lists the rest.
# Needs make and Python 3.11 to 3.13; everything else goes into $(VENV).

VENV ?= .venv
# Where a run puts its copy of the chapters and its book. Another OUT is another run.
OUT ?= out
# How many chapters are executed side by side; 2 is quicker on a machine with memory to spare.
# Those that read the clock are executed before them, alone; none are with TIMED=. Those that count processor
# time are executed beside others.
NB_WORKERS ?= 0
CHAPTERS := $(wildcard book/mnist/*.ipynb) $(filter-out book/mnist/%,$(wildcard book/*.ipynb book/*/*.ipynb))
TIMED := $(shell grep -l perf_counter book/*.ipynb book/*/*.ipynb)
# SOLUTIONS=1 executes the exercises' solutions after each chapter, too.
SOLUTIONS ?=
# Unit tests share nothing, so as many run side by side.
UNIT_WORKERS ?= 2
# Where processes fill the cores, operations need no threads of their own: neither TensorFlow's nor NumPy's and
# scikit-learn's (OpenBLAS obeys OpenMP's variable). A training step then takes seven to eight tenths of the
# processor time, logistic regression a fifth: threads that wait for each other wait awake.
SIDE_BY_SIDE := TF_NUM_INTRAOP_THREADS=1 OMP_NUM_THREADS=1
# What unit tests measure of themselves; COV= for none, which is quicker on Python 3.11.
COV ?= --cov=tlhelpers
PORT ?= 8000

PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
# Python compiles what it imports, which is a small part of all that is installed.
INSTALL := $(PY) -m pip install --quiet --no-compile --no-deps
NBMAKE := $(PY) -m pytest --nbmake --overwrite -p no:cacheprovider --durations=0

# An exported PYTHONDONTWRITEBYTECODE makes each import of TensorFlow three times slower.
unexport PYTHONDONTWRITEBYTECODE
# Quiet logs: TensorFlow's start-up notes, and the debugger's warning in each kernel.
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PYDEVD_DISABLE_FILE_VALIDATION ?= 1
# The kernel is the environment's own, whatever kernels the user has installed.
export JUPYTER_PREFER_ENV_PATH ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test env unit execute build pages nightly serve stamp measure bench pretrain lint format pin clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

book: env ## make the environment, execute every chapter, build the book
	@$(MAKE) --no-print-directory execute
	@$(MAKE) --no-print-directory build

test: env ## make the environment, run unit tests, notebook checks and every chapter
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory execute

env: $(STAMPS)/env ## make the environment, in .venv

unit: env ## unit tests, doctests and notebook checks (no chapter is executed)
	$(SIDE_BY_SIDE) $(PY) -m pytest -n $(UNIT_WORKERS) $(COV)

execute: env ## execute a copy of every chapter, in out/src; the tree stays clean
	$(PY) -m tools.book.build copy --out $(OUT) $(if $(SOLUTIONS),--solutions)
	$(if $(TIMED),$(NBMAKE) -n 0 $(patsubst %,$(OUT)/src/%,$(TIMED)))
	$(if $(filter-out 0,$(NB_WORKERS)),$(SIDE_BY_SIDE)) $(NBMAKE) -n $(NB_WORKERS) --dist worksteal $(patsubst %,$(OUT)/src/%,$(filter-out $(TIMED),$(CHAPTERS)))

build: env ## build the book from the chapters that were executed last
	$(PY) -m tools.book.build build --out $(OUT)

pages: env ## try the built book in a browser: Chromium, axe-core
	$(PY) -m pytest -n $(UNIT_WORKERS) tests/browser --site $(OUT)/_build/html

nightly: env ## what is too long for each change; ONLY="axe links ..." some of it
	$(PY) -m tools.checks.nightly --out $(OUT) $(ONLY)

serve: ## show the built book on http://127.0.0.1:8000, compressed as public hosts do
	$(PY) -m tools.serve $(OUT)/_build/html $(PORT)

stamp: env ## keep what an executed full edition (OUT) found, for the pocket edition's pages
	$(PY) -m tools.book.full --out $(OUT)

measure: env ## measure what the committed tables lack (can be interrupted); TABLE="curve limits" some tables
	$(PY) -m tlhelpers.studies $(if $(TABLE),--table $(TABLE))

bench: env ## the benchmarks; ONLY="name ..." some of them, QUICK=1 a tenth of the data
	$(PY) -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

pretrain: env ## train the packaged backbone again and measure it (10 to 30 minutes)
	$(PY) -m pretraining
	$(PY) -m pretraining.check

lint: env ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: env ## let ruff put the code in order
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

pin: env ## write constraints.txt; UPGRADE=1 takes the newest versions
	$(PY) -m tools.pin $(if $(UPGRADE),--upgrade)

clean: ## remove what the targets made, but not the environment
	rm -rf out "$(OUT)" .coverage .pytest_cache .mypy_cache .ruff_cache

distclean: clean ## remove the environment, too
	rm -rf "$(VENV)"

# A stamp file says that the environment holds what pyproject.toml and constraints.txt ask for.
# Only what has a pinned hash gets in; an editable install can't be hashed, and its build back end was just installed.
$(STAMPS)/env: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) --require-hashes --only-binary :all: --requirement constraints.txt
	$(INSTALL) --no-build-isolation --editable .
	@mkdir -p $(STAMPS) && touch $@

$(PY):
	@sh tools/make-venv.sh "$(VENV)" $(PYTHON)
