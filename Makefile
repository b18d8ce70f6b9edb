# Every target does its own set-up: Python, git and make are all a machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that tests start would compile latkit each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint docs check-wheel gpu clean

help:
	@echo "make demo         install, then the whole path live on this machine (2 minutes)"
	@echo "make test         install with development tools, then run the tests"
	@echo "make lint         ruff, mypy --strict, and the floors of the house"
	@echo "make docs         build the documentation's site: docs/build/index.html"
	@echo "make check-wheel  build sdist and wheel, check what it contains, run it by itself"
	@echo "make gpu          what works on this GPU and how fast, in at most 9 minutes (installs nothing)"
	@echo "make clean        remove .venv and build leftovers"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[dev]'
# Beside the others: ExecuTorch requires much that no test needs. Without it, tests skip.
	-$(BIN)/python -m pip install --no-deps 'executorch>=1.5' torchao ruamel.yaml tabulate
	@touch $(VENV)/installed $@

$(VENV)/installed-docs: $(VENV)/installed-dev
	$(BIN)/python -m pip install --editable '.[docs]'
	@touch $@

demo: $(VENV)/installed
	$(BIN)/latkit demo

test: $(VENV)/installed-dev
	$(BIN)/pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going --quiet -c docs . docs/build

check-wheel: $(VENV)/installed-dev
	rm -rf build dist
# The source distribution, and the wheel of that.
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python tests/packaging/check_wheel.py dist/*.whl
	$(BIN)/python tests/packaging/check_install.py dist/*.whl

# From the checkout, with whatever Python has PyTorch: OUT=DIR and WHEELS=DIR are optional.
gpu:
	$(PYTHON) benchmarks/gpu.py $(if $(OUT),--out '$(OUT)') $(if $(WHEELS),--wheels '$(WHEELS)')

clean:
	rm -rf $(VENV) build dist docs/build *.egg-info
