# Every target is one line here and one script in scripts/; `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=

.PHONY: help setup run stop test test-full cluster cluster-stop lint bench conformance diagrams docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install what running and testing need (Debian packages, .venv); quick when nothing is missing
	@SETUP=$(or $(SETUP),test) scripts/setup

run: ## install what running needs, start a whole cloud, boot a first server; options of `kilonova up` in ARGS
	@SETUP=run scripts/setup
	@scripts/run $(ARGS)

stop: ## stop it: guests shut down cleanly, data stays (ARGS=--purge leaves nothing)
	@$(BIN)/kilonova down $(ARGS)

cluster: ## a cluster of 5 machines in namespaces, every service in two copies; DB=mariadb, ARGS="--copies 1 --fake"
	@scripts/cluster up $(if $(DB),--db $(DB)) $(ARGS)

cluster-stop: ## take it down; nothing is left
	@scripts/cluster down

test: setup ## style, unit, contract, law, API, guest and cluster tests; select with ARGS="tests/unit -k words"
	@scripts/test $(ARGS)

test-full: ## all of that and what takes longer: chaos, attacks, a browser, long seeds
	@SETUP=full scripts/setup
	@FULL=1 scripts/test $(ARGS)

lint: setup ## ruff (lint and format), mypy --strict, import layers, budgets
	@$(BIN)/python -m pytest tests/tidy

bench: setup ## measure what the guide promises (BENCH="login create": those phases); writes output/bench/
	@BENCH="$(BENCH)" $(BIN)/python -m tests.bench $(ARGS)

conformance: setup ## the field's own suites: AREA=compute|network|… HYPERVISOR=fake|libvirt SHARD=i/n MIN=count FAILED=1
	@AREA="$(AREA)" HYPERVISOR="$(HYPERVISOR)" SHARD="$(SHARD)" MIN="$(MIN)" FAILED="$(FAILED)" scripts/conformance

diagrams: setup ## draw every operation from real runs into output/SERVICE/VERB.*
	@scripts/diagrams $(ARGS)

docs: setup ## check that pages made from the code are fresh (WRITE=1 writes them)
	@WRITE=$(WRITE) $(BIN)/python scripts/docs.py

lock: ## write requirements*.lock from the packages in PYTHON's environment (default .venv)
	@$(or $(PYTHON),$(BIN)/python) scripts/lock.py

clean: ## remove .venv, caches and output; a running cloud's state is not touched
	@scripts/clean
