# make train, make test: each alone sets up what it needs. ARGS passes through: make train ARGS="model=unet_deep"
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help setup train test lint format types check reference clean mlflow-server mlflow-ui

PORT ?= 9003
DB ?= sqlite:///$(CURDIR)/outputs/server/mlflow.db
ARTIFACTS ?= $(CURDIR)/outputs/server/artifacts

help: ## show these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1|/' | column -t -s '|'

setup: $(READY) ## make .venv with everything in it

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "AstrID needs Python 3.11 or newer; install it or say make PYTHON=/path/to/python"; exit 1; }
	@echo "setting up $(VENV) (about two minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

train: $(READY) ## train, evaluate and record a U-Net (ARGS="model=unet_deep data.batch_size=16")
	@$(BIN)/python train.py $(ARGS)

# two processes of one thread each: more threads would wait for each other
test: export OMP_NUM_THREADS ?= 1
# and byte code kept, since tests start some hundred commands that would compile the package again
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY) ## run the tests (ARGS="-k unet")
	@$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## ruff
	@$(BIN)/ruff check .

format: $(READY) ## check the format
	@$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict
	@$(BIN)/mypy

mlflow-server: export MLFLOW_BACKEND_STORE_URI = $(DB)
mlflow-server: export MLFLOW_ARTIFACTS_DESTINATION = $(ARTIFACTS)
mlflow-server: $(READY) ## MLflow on port 9003 (DB=postgresql://... ARTIFACTS=s3://... OPTIONS="--app-name basic-auth")
	@mkdir -p outputs/server
	@$(BIN)/mlflow server --port $(PORT) --workers 2 $(OPTIONS)

mlflow-ui: $(READY) ## open the pages of outputs/mlflow.db on port 5000
	@$(BIN)/mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db $(OPTIONS)

check: test lint format types ## all of the above

reference: $(READY) ## write docs/reference.md, the page of every knob
	@$(BIN)/python -m astrid.config.reference > docs/reference.md

clean: ## remove .venv and caches, keep outputs/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
