# Two commands matter: `make demo` (see it work) and `make test` (see it hold).
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= outputs/demo
PROCESSES ?= 2

.PHONY: install demo test check

install: .venv/.runtime

.venv/.runtime: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e .
	@touch $@

.venv/.dev: .venv/.runtime pyproject.toml
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

demo: .venv/.runtime
	@rm -rf $(DEMO)
	$(BIN)/deblurkit train --preset quickstart --output $(DEMO) --set DATA.ROOT=$(DEMO)/data
	$(BIN)/deblurkit evaluate $(DEMO) --ablate-spikes --picture $(DEMO)/before_after.png
	$(BIN)/deblurkit analyze-log $(DEMO)/logs/timing_*.log

test: .venv/.dev
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
