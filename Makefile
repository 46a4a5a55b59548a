# Two commands need no set-up:  make evening   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

evening: $(VENV)/installed
	$(BIN)/nomoat evening

test: check test-fast test-real

check: $(VENV)/dev
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

test-fast: $(VENV)/dev
	$(BIN)/pytest -q -m "not real and not slow"

test-real: $(VENV)/dev
	$(BIN)/pytest -q -m "real or slow"

$(VENV)/installed: pyproject.toml setup.py $(wildcard csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q .
	touch $@

# --no-build-isolation is not used: a fresh machine has no setuptools of ours.
$(VENV)/dev: pyproject.toml setup.py $(wildcard csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/nomoat/kernels/_native*

.PHONY: evening test check test-fast test-real clean
