# Everything one types here. A fresh machine needs python3 (>= 3.11) with venv, and make; the rest is fetched into
# .venv, each package checked against its hash in the lock files. `make PYTHON=/path/to/python3.12 ...` picks another.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq
ARGS ?=
# Puts this directory and queue/ on the path of .venv, so that the relay runs without being installed.
PTH = import pathlib as p, sysconfig as s; here = p.Path.cwd(); \
	p.Path(s.get_path("purelib"), "sources.pth").write_text(f"{here}\n{here}/queue\n")
# `make lock` uses the uv of the PATH, or one put into .venv by hand.
UV ?= $(firstword $(wildcard $(BIN)/uv) uv)
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS) pyproject.toml

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo lint format test image scale faults lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 14

setup: .venv/.developer ## a .venv with the project and its tools in it
	@echo 'Ready: .venv/bin/relay'

demo: .venv/.runtime ## see real mail go through a real relay (about 6 s, the first time 30; ARGS=--stay keeps it running)
	@$(BIN)/python -m relay demo $(ARGS)

lint: .venv/.developer ## format, lint and strict types, without changing anything
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.developer ## write the files as `make lint` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: .venv/.developer ## all tests (ARGS="tests/unit -k front" runs some)
	$(BIN)/pytest $(ARGS)

image: .venv/.developer ## build the container's image without a registry, and run it (as root; a minute or two)
	RELAY_IMAGE=1 $(BIN)/pytest -s tests/integration/test_image.py $(ARGS)

scale: .venv/.developer ## full sizes: a million queued, 100,000 lanes, 100 connections with 50 MB each, 10,000 guesses (half an hour, GBs)
	RELAY_FULL=1 $(BIN)/pytest -s tests/integration/test_scale.py tests/integration/test_scale_lanes.py \
		tests/integration/test_logins.py \
		tests/integration/test_limits.py $(ARGS)

faults: .venv/.developer ## full sizes of what tests/faults/ does: kills, power cuts, sick disks (hours; ARGS=tests/faults/test_x.py)
	FAULTS_FULL=1 $(BIN)/pytest -s $(or $(ARGS),tests/faults tests/unit/test_queue_model.py)

bench: .venv/.developer ## speed beside Postfix (as root; half an hour; ARGS="--scenarios smalld --pairs 3" for less)
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

lock: ## choose newer or other dependencies (needs uv; ARGS=--upgrade for the newest)
	$(COMPILE) -o deploy/requirements.lock
	$(COMPILE) --extra dev --constraint deploy/requirements.lock -o tests/requirements.lock

clean: ## remove .venv and all that the tools leave behind
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make the second run quick: one for what the relay needs to run, one for what its developers need too.
.venv/.runtime: deploy/requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) -V) is too old: install \
	Python 3.11 or newer, or name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv: install it (Debian, \
	Ubuntu: apt-get install python3-venv)."; exit 1; }
	@echo "Setting up .venv (once, needs the network) ..."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --require-hashes -r deploy/requirements.lock
	@$(BIN)/python -c '$(PTH)'
	@touch $@

.venv/.developer: .venv/.runtime tests/requirements.lock pyproject.toml
	@echo "Adding the developers' tools to .venv (once, needs the network) ..."
	@$(INSTALL) --require-hashes -r tests/requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
