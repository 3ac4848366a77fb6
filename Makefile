# `make demo` and `make test` set up what they need; a second call starts at once.
.PHONY: demo test suite fuzz faults mutants lint format types bench docs dist gpu clean

# Python 3.11 to 3.14: the first of these that is one, or make test PYTHON=/path/to/python
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c '$(SUITABLE)' 2>/dev/null && { echo $$p; break; }; done),python3)
CHECK = @$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || \
  { echo "$(PYTHON) is not Python 3.11 to 3.14: install one and name it, as in make test PYTHON=python3.12" >&2; exit 2; }
BIN := .venv/bin
STAMP := .venv/.installed
BENCH := .bench-venv
DOCS := .docs-venv
DIST := .dist-venv

$(STAMP): pyproject.toml constraints.txt
	$(CHECK)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/ssimgen demo

# Types are checked beside the tests, for most of a minute.
test: $(STAMP)
	@$(MAKE) --no-print-directory --jobs=2 types suite

# Freed memory is kept for what comes next: giving it back to the system takes a twentieth of the time.
suite: $(STAMP) lint
	$(BIN)/python -m compileall -q src # once, where processes may leave nothing behind
	OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_MMAP_THRESHOLD_=1000000000 \
	  $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

# Random calls against the definitions: make fuzz CALLS=100000 SEED=2000000
CALLS ?= 20000
SEED ?= 1000000
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --seed $(SEED) --calls $(CALLS) --jobs 2

# Runs killed, disks filled, files damaged, at random: make faults MINUTES=30 SEED=7
MINUTES ?= 10
faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/faults.py --minutes $(MINUTES) --seed $(SEED)

# Whether tests notice one wrong operator or number; goes on where it stopped: make mutants SAMPLE=10 MODULES="pairwise"
SAMPLE ?= 100000
BAR ?= 0.9
mutants: $(STAMP)
	$(BIN)/python tests/mutation/mutation.py $(if $(MODULES),--modules $(MODULES)) --sample $(SAMPLE) --bar $(BAR)

bench: $(BENCH)/.installed
	$(BENCH)/bin/python benchmarks/pairs.py
	$(BENCH)/bin/python benchmarks/pairwise.py
	$(BENCH)/bin/python benchmarks/volumes.py
	$(BENCH)/bin/python benchmarks/compilation.py

$(BENCH)/.installed: pyproject.toml benchmarks/requirements.txt
	$(CHECK)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --constraint constraints.txt --requirement benchmarks/requirements.txt --editable '.[all]'
	touch $@

# The documentation site, in docs/_build/html; a warning, as of a broken link, is an error.
docs: $(DOCS)/.installed
	$(DOCS)/bin/sphinx-build --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

$(DOCS)/.installed: pyproject.toml constraints.txt
	$(CHECK)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Wheel and source archive, built and checked, in dist/
dist: $(DIST)/.installed
	rm -rf dist
	$(DIST)/bin/python -m build --quiet
	$(DIST)/bin/twine check --strict dist/*

$(DIST)/.installed: constraints.txt
	$(CHECK)
	$(PYTHON) -m venv $(DIST)
	$(DIST)/bin/pip install --quiet --constraint constraints.txt build twine
	touch $@

# With a GPU, in an environment whose PyTorch finds it (pip install -e '.[dev]'): make gpu GPU_PYTHON=python; 10 minutes
# Most of the time of tests goes into compiling kernels, which processes share.
GPU_PYTHON ?= python
GPU_TESTS = $(GPU_PYTHON) -m pytest -m gpu -n 8 -p no:benchmark tests/test_on_gpu.py
gpu:
	$(GPU_TESTS)
	SSIMGEN_ENGINE=eager $(GPU_TESTS)
	$(GPU_PYTHON) benchmarks/gpu.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .bench-venv .docs-venv .dist-venv dist docs/_build docs/api
