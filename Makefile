# The two commands a newcomer needs: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?=

.PHONY: demo test check format docs test-cluster test-image clean

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "foreshock needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## train the tiny organism, run the whole sweep on it, write the report
	$(BIN)/foreshock demo --output demo-results

test: $(INSTALLED)  ## every test that needs neither Slurm nor an image builder, with the coverage floor
	$(BIN)/python -m pytest -n auto --cov --cov-report=term:skip-covered --cov-fail-under=85 \
	  -m "not cluster and not image and not vllm" $(PYTEST_ARGS)

check: $(INSTALLED)  ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-cluster: $(INSTALLED)  ## real Slurm on this Debian machine; needs root
	command -v slurmctld >/dev/null || slurm/testbed/testbed.sh install
	$(BIN)/python -m pytest -m cluster tests/slurm/cluster $(PYTEST_ARGS)

docs: $(INSTALLED)  ## regenerate the documents that are made from code
	$(BIN)/python -m foreshock.batch.config_docs > docs/configuration.md

clean:
	rm -rf demo-results .coverage .coverage.*
