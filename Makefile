# Every target sets itself up: a virtual environment in .venv, made from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test soak check bench gpu-check screenshots snapshots docs clean

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "QUBIX needs Python 3.11 or newer; this is $$($(PYTHON) --version). Set PYTHON=…" >&2; exit 1; }
	@echo "Setting up .venv (once, about a minute) …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/ready
	@exec $(BIN)/qubix demo

test: .venv/ready
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

# What takes too long for every day. QUBIX_SOAK_SECONDS says how long each of the endless ones runs.
soak: .venv/ready
	@$(BIN)/python -m pytest -m soak --timeout 0

check: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/ready
	@$(BIN)/python -m benchmarks.fanout
	@$(BIN)/python -m benchmarks.whole
	@$(BIN)/python -m benchmarks.growth
	@$(BIN)/python -m benchmarks.jobs
	@$(BIN)/python -m benchmarks.engines
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks.agent_cost
	@$(BIN)/python -m benchmarks.console

# Every value of the agent beside nvidia-smi's, idle and under load; docs/gpu-check.md shows what it prints.
gpu-check: .venv/ready
	@$(BIN)/python -m benchmarks.gpu_check

screenshots: .venv/ready
	@$(BIN)/python -m screenshots.make

# The console's pictures as text that its tests compare with: look at the difference before committing it.
snapshots: .venv/ready
	@QUBIX_UPDATE_SNAPSHOTS=1 $(BIN)/python -m pytest -q -n 2 tests/console

docs: .venv/ready
	@$(BIN)/python -m qubix_tui.protocol.asyncapi > docs/asyncapi.yaml

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
