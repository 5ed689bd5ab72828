# Two commands for everyone, `make demo` and `make test`: each makes its own virtual environment
# and installs what it needs. PYTHON and VENV can be set on the command line.

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

# With it, each test process would compile all files.
unexport PYTHONDONTWRITEBYTECODE

# The networks are small. With more threads, a busy machine makes them up to a hundred times slower.
demo docs test: export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test check docs lint types wheel bench clean

demo: $(VENV)/.examples
	$(RUN) examples/digits.py

# In up to four processes.
test: $(VENV)/.test
	$(RUN) -m pytest -m "not slow" -n auto --maxprocesses 4

# The pages run while they are built. Warnings, and links that lead nowhere, are errors.
docs: $(VENV)/.docs
	rm -rf build/docs docs/_figures
	$(RUN) -m sphinx --builder html --jobs 2 --fail-on-warning --keep-going --quiet docs build/docs
	$(RUN) docs/_ext/links.py build/docs
	@echo "the site: build/docs/index.html"

# What CI runs beside the tests.
check: lint types wheel

lint: $(VENV)/.dev
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

types: $(VENV)/.dev
	$(RUN) -m mypy

wheel: $(VENV)/.dev
	rm -rf dist
	$(RUN) -m build --wheel

# All benchmarks, or some of them: make bench BENCH="--only training_steps gru --quick"
bench: $(VENV)/.bench
	$(RUN) benchmarks/run.py $(BENCH)
	$(RUN) benchmarks/report.py
	$(RUN) benchmarks/workers.py

# One stamp for each set of extras, remade when the requirements change.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable ".[$*]"
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) .nox docs/_figures build dist output .pytest_cache .mypy_cache .ruff_cache .hypothesis
