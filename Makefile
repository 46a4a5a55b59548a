# Two commands need no set-up:  make evening   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The version that the figures in README.md were measured with. On Linux the default wheel carries CUDA; to spare the
# download:  make evening TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
SOURCES := pyproject.toml setup.py $(wildcard csrc/*)
PYTHON_SOURCES := $(shell find src -name '*.py' -o -name '*.toml' -o -name '*.j*' 2>/dev/null)

evening: $(VENV)/installed
	$(BIN)/nomoat evening

test: check test-fast test-real

check: $(VENV)/dev
	$(BIN)/ruff check src tests bench setup.py
	$(BIN)/ruff format --check src tests bench setup.py
	$(BIN)/mypy
	$(BIN)/lint-imports

test-fast: $(VENV)/dev
	$(BIN)/pytest -q -m "not real and not slow"

test-real: $(VENV)/dev
	$(BIN)/pytest -q -m "real or slow"

# The kernels and their unit tests once more, under the address and undefined-behaviour sanitizers. PYTHON needs the
# packages of `make test`: make sanitize PYTHON=.venv/bin/python
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
SANITIZED := $(CURDIR)/build/sanitized
sanitize:
	mkdir -p $(SANITIZED)
	cp -r src/nomoat $(SANITIZED)/
	CFLAGS="$(SANITIZE) -g" LDFLAGS="$(SANITIZE)" $(PYTHON) setup.py -q build_ext --force \
	    --build-lib $(SANITIZED) --build-temp $(SANITIZED)/objects
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(SANITIZED) $(PYTHON) -m pytest -q -p no:cacheprovider tests/unit/kernels

# An editable install serves both: `make evening` after `make test` must not replace it.
$(VENV)/dev: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -e '.[dev]'
	touch $(VENV)/installed $@

$(VENV)/installed: $(SOURCES) $(PYTHON_SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q $(if $(wildcard $(VENV)/dev),-e) .
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info src/nomoat/kernels/_native*

.PHONY: evening test check test-fast test-real sanitize clean
