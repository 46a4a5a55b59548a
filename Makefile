# Two commands need no set-up:  make evening   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLIENTS := .venv-clients
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

test-fast: $(VENV)/dev $(CLIENTS)/installed
	NOMOAT_TEST_CLIENTS=$(CURDIR)/$(CLIENTS)/bin/python $(BIN)/pytest -q -m "not real and not slow"

test-real: $(VENV)/dev
	$(BIN)/pytest -q -m "real or slow"

# The kernels and their unit tests once more, under the address and undefined-behaviour sanitizers. PYTHON needs the
# packages of `make test`: make sanitize PYTHON=.venv/bin/python
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined
SANITIZED := $(CURDIR)/build/sanitized
sanitize:
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -r src/nomoat $(SANITIZED)/
	rm -f $(SANITIZED)/nomoat/kernels/_native*
	$(CXX) -std=c++17 -O1 -g -ffp-contract=off -fPIC -shared -pthread $(SANITIZE) csrc/*.cpp -ldl \
	    -I$$($(PYTHON) -c "import sysconfig; print(sysconfig.get_path('include'))") \
	    -o $(SANITIZED)/nomoat/kernels/_native$$($(PYTHON) -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
	nm -D $(SANITIZED)/nomoat/kernels/_native* | grep -q __asan_init
	# -s: what a sanitizer says before it ends the process would be lost with the captured output
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(SANITIZED) $(PYTHON) -m pytest -q -s -p no:cacheprovider tests/unit/kernels \
	    --ignore=tests/unit/kernels/test_arm.py  # an emulator does not run with a sanitizer loaded before it

# The kernels compiled for Arm and run in an emulator. On Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static
arm: $(VENV)/dev
	command -v aarch64-linux-gnu-g++ && command -v qemu-aarch64-static
	$(BIN)/pytest -q tests/unit/kernels/test_arm.py

# The tables of README.md, all on this tree: some two hours on two cores, with nothing beside it. Needs cmake.
MEASURED := build/measured
measure: $(VENV)/dev
	mkdir -p $(MEASURED)
	git describe --always --dirty > $(MEASURED)/tree.txt
	$(BIN)/python bench/tune.py --peers "PEFT float32" "nomoat float32" "nomoat bfloat16" \
	    --steps 6 --rounds 5 --held-out 4 > $(MEASURED)/tune.md
	for model in smollm2 gemma3 qwen05; do $(BIN)/python bench/serve.py --model $$model --rounds 5 \
	    --peer llama-server llama-server-without-tiles > $(MEASURED)/serve-$$model.md || exit; done
	$(BIN)/python bench/first_token.py > $(MEASURED)/first_token.md
	$(BIN)/python bench/predict.py > $(MEASURED)/predict.md
	$(BIN)/python bench/profile_step.py > $(MEASURED)/profile.md
	head -n 99 $(MEASURED)/*

# An editable install serves both: `make evening` after `make test` must not replace it.
$(VENV)/dev: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -e '.[dev]'
	touch $(VENV)/installed $@

# Other people's clients of our server bring several hundred megabytes and choose versions; they get a place of their own.
$(CLIENTS)/installed: pyproject.toml
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install -q --upgrade pip
	$(CLIENTS)/bin/pip install -q --group clients
	touch $@

$(VENV)/installed: $(SOURCES) $(PYTHON_SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q $(if $(wildcard $(VENV)/dev),-e) .
	touch $@

clean:
	rm -rf $(VENV) $(CLIENTS) build dist src/*.egg-info src/nomoat/kernels/_native*

.PHONY: evening test check test-fast test-real sanitize arm measure clean
