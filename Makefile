# make demo       the whole story on MovieLens-100K: train, evaluate, serve, and watch a user change
# make test       lint and the whole test suite
# make test-fast  the tests that take seconds, without lint
# make test-faults  what clusters do to a run: killed workers and nodes, full disks, damaged checkpoints (minutes each)
# make lint       ruff, import layers, mypy
# make setup      .venv with everything in it (the others do this themselves)
#
# PYTHON=python3.12 make setup                                           another interpreter (3.11 or newer)
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup    torch without CUDA, where PyPI would bring it

SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-faults lint fetch

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

setup: $(INSTALLED)

# pip's output goes to a log; what it has come to is shown every few seconds, on a terminal in one line.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); Driftline needs Python 3.11 or newer." \
			"Name one: PYTHON=python3.12 make setup" >&2; exit 1; }
	@echo "setting up $(VENV) (the first time: a few minutes, 2 GB; log in $(VENV)/install.log)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@log=$(VENV)/install.log; form='  %4d s, %3d packages installed; %.80s\n'; \
	if [ -t 1 ]; then form="\r\033[K$${form%??}"; fi; \
	while sleep 3 >/dev/null 2>&1; do \
		printf "$$form" $$SECONDS "$$(ls -d $(VENV)/lib/python*/site-packages/*.dist-info | wc -l)" "$$(tail -n 1 $$log)"; \
	done & trap "kill $$! 2>/dev/null; echo" EXIT; \
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' -c constraints.txt >$$log 2>&1 || { \
		tail -n 25 $$log >&2; echo "error: pip could not install Driftline; see $$log" >&2; exit 1; }
	@touch $@

fetch: setup
	@$(BIN)/driftline fetch

demo: fetch
	@PYTHONPATH=platform $(BIN)/python jobs/demo.py

test: fetch lint
	$(BIN)/python -m pytest -m 'not faults'

test-fast: fetch
	$(BIN)/python -m pytest -m 'not slow and not faults'

test-faults: fetch
	$(BIN)/python -m pytest -m faults

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=platform $(BIN)/lint-imports
	$(BIN)/mypy
