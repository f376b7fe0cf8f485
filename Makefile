# Two commands matter: `make bench` measures, `make test` checks the code. Both set up .venv first.
# Variables: CONFIG=configs/x.toml  MODEL=hub-id-or-folder  ARGS="--quiet"  PIP_ARGS="…"  PYTHON=python3.12

VENV   ?= .venv
CONFIG ?= $(shell $(BENCH) env --choose-config)
ARGS   ?=
BENCH  := $(VENV)/bin/bench
STAMP  := $(VENV)/.installed
# The first interpreter that runs and is new enough; a shim that only exists does not count.
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
            $(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))

.DEFAULT_GOAL := help
.PHONY: help bench notebook test check compare summarize perf validate env clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## *' '{printf "  make %-10s %s\n", $$1, $$2}'

bench: $(STAMP)  ## measure the experiment that fits this machine (CONFIG=…, MODEL=…)
	$(BENCH) run $(CONFIG) $(if $(MODEL),--model "$(MODEL)") $(ARGS)

notebook: $(STAMP)  ## measure (or take RUN=…), then execute the evaluation notebook to results/evaluation.html
	$(if $(RUN),$(BENCH) summarize $(RUN) --out results,$(BENCH) run $(CONFIG) $(if $(MODEL),--model "$(MODEL)") $(ARGS))
	$(BENCH) notebook results --html

test: $(STAMP)  ## lint, types, layers and the test suite
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP)  ## validate every experiment file without loading weights
	$(BENCH) check configs/*.toml

compare: $(STAMP)  ## compare the two CSVs under results/
	$(BENCH) compare results/baseline_inference_metrics.csv results/optimized_inference_metrics.csv $(ARGS)

summarize: $(STAMP)  # rebuild the CSVs of a run folder from its raw data (RUN=…)
	@test -n "$(RUN)" || { echo "name a run folder: make summarize RUN=results/runs/…/…" >&2; exit 2; }
	$(BENCH) summarize $(RUN) $(ARGS)

perf: $(STAMP)  ## every speed claim as a ratio measured side by side; half an hour, on a quiet machine
	$(VENV)/bin/python -m tests.perf $(ARGS)

validate: $(STAMP)  ## every truth claim against a known answer: queueing theory, conformance
	$(VENV)/bin/python -m tests.validate $(ARGS)

env: $(STAMP)  ## show what this machine has and what is missing
	$(BENCH) env

clean:  ## remove the virtual environment and caches; results stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "bench needs Python 3.11 or newer; install it, or name it: make PYTHON=…" >&2; exit 2; }
	@echo "Setting up $(VENV) with $(PYTHON), once; this downloads torch and takes minutes." >&2
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev,gguf]'
	@touch $@
