# `make demo` and `make test` set up what they need; a second call starts at once.
.PHONY: demo test fuzz faults mutants lint format types bench gpu clean

PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
BENCH := .bench-venv

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/ssimgen demo

test: $(STAMP) lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

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
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/pip install --quiet --constraint constraints.txt --requirement benchmarks/requirements.txt --editable '.[all]'
	touch $@

# With a GPU, in an environment whose PyTorch finds it (pip install -e '.[dev]'): make gpu GPU_PYTHON=python; 10 minutes
GPU_PYTHON ?= python
gpu:
	$(GPU_PYTHON) -m pytest -m gpu tests/test_on_gpu.py
	SSIMGEN_ENGINE=eager $(GPU_PYTHON) -m pytest -m gpu tests/test_on_gpu.py
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
	rm -rf .venv .bench-venv
