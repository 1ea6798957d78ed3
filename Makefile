# Doorward. Every target makes its own .venv from the hashes in requirements.lock.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
WORKERS := $(shell expr $$(nproc) \* 3 / 2) # of `make test`: many of its tests wait for processes

.PHONY: help demo test test-slow test-image test-kubernetes kubernetes-assets sbom fuzz check format lock peers clean
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE # each of the hundreds of programs that the tests start would compile all of itself anew

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Doorward needs Python 3.11 or later: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## run the mesh on this machine and watch it work (ONCE=1: once, then exit)
	@$(BIN)/python -m examples.demo $(if $(ONCE),--once)

test: $(READY) ## run every test that this machine can run
	$(BIN)/python -m pytest --numprocesses=$(WORKERS)
	@echo "left out: make test-slow (load and faults, minutes), make test-kubernetes (a real API server; Go, root), make test-image (debootstrap, root)"

test-slow: $(READY) ## what takes minutes: load, faults and floods against live processes, and the store on PostgreSQL
	$(BIN)/python -m pytest --numprocesses=auto -m slow -o faulthandler_timeout=300 tests/slow tests/control_plane/store

test-image: $(READY) ## make both images by the steps of the Dockerfile, without a container engine, and use them (Debian, root)
	$(BIN)/python -m pytest -m image -o faulthandler_timeout=1800 tests/image

test-kubernetes: $(READY) kubernetes-assets ## what needs a real Kubernetes API server and helm (root)
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m kubernetes -o faulthandler_timeout=300 tests/kubernetes

kubernetes-assets: $(READY) ## build kube-apiserver, etcd, kubectl and helm once, into ~/.cache/doorward (Go)
	@$(BIN)/python -m tests.support.assets

fuzz: $(READY) ## every property test with fresh random examples, again and again (SECONDS=300)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),300)

check: $(READY) ## lint, types and the walls between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## put every file into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sbom: $(READY) ## the bill of materials of an image, unpacked (ROOT=directory)
	@$(BIN)/python -m image.sbom $(ROOT)

LOCK := .lock-venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.11
lock: ## write requirements.lock anew from pyproject.toml, and the locks of the images from both
	$(PYTHON) -m venv .lock-venv && .lock-venv/bin/pip install --quiet uv
	$(LOCK) --upgrade --extra dev --output-file requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --output-file image/sidecar.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --extra control-plane --output-file image/control-plane.lock pyproject.toml
	sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml | $(LOCK) --constraint requirements.lock --output-file image/build.lock -
	rm -rf .lock-venv

peers: ## install the programs that the tests talk to or are built with (Debian, root)
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light curl wrk postgresql iproute2 iptables util-linux faketime debootstrap $(if $(shell command -v go),,golang-go)

clean: ## remove what the targets made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -prune -exec rm -rf {} +
