# `make demo` and `make test` set up what they need: a virtual environment in .venv, made once and again when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
# The versions that were tested; `make TORCH= …` takes what pip finds newest.
TORCH ?= torch==2.14.1 torchvision==0.29.1

.PHONY: demo test lint clean

demo: $(VENV)/ready
	$(VENV)/bin/coattail demo

test: $(VENV)/ready
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(if $(CI),-W error) $(PYTEST)

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "coattail needs Python >= 3.11, found " + sys.version.split()[0] + "; make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(TORCH) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
