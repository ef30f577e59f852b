# Everything is installed into .venv/; nothing needs root. `make help` lists the targets.

PYTHON ?= python3
PORT ?= 8000
BUNDLE ?= bundles/demo
# onnxruntime and onnxruntime-gpu own the same folder, so exactly one of them is installed.
RUNTIME ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
override RUNTIME := $(RUNTIME)
ifeq ($(filter cpu gpu,$(RUNTIME)),)
$(error RUNTIME must be cpu or gpu, got '$(RUNTIME)')
endif

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
OTHER := $(if $(filter gpu,$(RUNTIME)),onnxruntime,onnxruntime-gpu)
# pyspark is large and of no use without Java: where there is none, its tests are skipped.
SPARK := $(shell command -v java >/dev/null 2>&1 && echo ,spark)
# What is installed is recorded in two stamps: enough to serve, and everything.
SERVING := .venv/.serving-$(RUNTIME)
COMPLETE := .venv/.complete-$(RUNTIME)

.DEFAULT_GOAL := help
.PHONY: help serve install train-demo format lint test clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

# `exec`: a signal that make passes on must reach the service, not a shell in between.
serve: $(SERVING) ## Serve a bundle [PORT=8000] [BUNDLE=bundles/demo]
	exec $(BIN)/tandem serve --port "$(PORT)" --bundle "$(BUNDLE)"

install: $(COMPLETE) ## Install everything: serving, training and the tools of `make test`

train-demo: $(COMPLETE) ## Train bundles/demo again from its synthetic data
	$(BIN)/tandem demo-data data/demo
	$(BIN)/tandem train data/demo --preset demo --name demo --flat --fresh

format: $(COMPLETE) ## Format the code and apply the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(COMPLETE) ## Check style, format, types and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two workers, each with whole files, as fixtures that export graphs belong to a file; one thread each, as on two cores.
test: lint ## Run `make lint` and the tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

clean: ## Remove .venv/, caches and build outputs; data/, runs/ and bundles/ stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SERVING): pyproject.toml | $(BIN)/pip
	@echo "Installing the $(RUNTIME) runtime into .venv/"
	@rm -f .venv/.serving-* .venv/.complete-*
	@$(PIP) uninstall --yes $(OTHER) 2>/dev/null
	$(PIP) install --editable '.[$(RUNTIME)]'
	@touch $@

$(COMPLETE): $(SERVING)
	@echo "Installing training and development tools into .venv/ (PyTorch is large)"
	$(PIP) install --editable '.[$(RUNTIME),train,embed$(SPARK),loadtest,dev]'
	@touch $@

# Debian keeps ensurepip in python3-venv; without that package the host's own pip fills the environment.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed, got '$$($(PYTHON) --version 2>&1)' from $(PYTHON); try make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; } || \
		{ echo "A virtual environment cannot be made: install python3-venv, or pip 22.3 or newer for $(PYTHON)"; exit 1; }
