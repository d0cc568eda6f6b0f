# Everything runs in .venv; `make test` on a fresh clone sets it up and runs every check.
#
#   make test    set up, then all checks     make check   all checks in the environment at hand
#   make demo    set up, then the demo       make bench   set up, then the step benchmark
#   make paper-smoke   set up, then every table of the papers at the scale of a laptop (under an hour on two cores)
#   make exports   set up, then every export opened in its real program and taken back (about 10 minutes, from the index)
#   make clean   remove .venv and caches   make cluster-files   what deploy/ ships to the machines of a cluster
#   make notebooks   set up, then execute examples/notebooks into runs/notebooks, with their outputs
#   make bench-cluster   set up, then what Ray and the orchestration cost (about 20 minutes, on a machine at rest)
#
# On Linux the default torch brings CUDA (gigabytes); TORCH_INDEX=<url> takes torch from another index,
# for instance that of the CPU builds.

PYTHON ?= python3
TORCH_INDEX ?=
# Rows for the demo: made by a generator, or from a folder with the real ones.
DATA ?= synthetic

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup test check lint types layers unit demo exports notebooks paper-smoke bench bench-cluster cluster-files clean

setup: $(STAMP)

# Made anew when a dependency changes. torch comes first, on its own, so that its index serves torch alone.
$(STAMP): pyproject.toml constraints.txt
	@echo "== environment"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: $(STAMP)
	@$(MAKE) --no-print-directory check

# The cheapest first. Types are checked beside the tests, which wait for Ray a part of their time.
check:
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory layers
	@$(MAKE) --no-print-directory -j 2 types unit

lint:
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types:
	@echo "== mypy"
	@$(BIN)/mypy

layers:
	@echo "== import contracts"
	@$(BIN)/lint-imports

# In two processes: one for the tests that start Ray, which mostly wait, and one for all the others.
unit:
	@echo "== pytest"
	@$(BIN)/python -m pytest -n 2

demo: $(STAMP)
	@$(BIN)/python pipelines/bbh_grid.py --preset laptop --set settings.task.data=$(DATA) --out runs/demo
	@$(BIN)/greater-ray report runs/demo

notebooks: $(STAMP)
	@$(BIN)/python examples/execute_notebooks.py runs/notebooks

paper-smoke: $(STAMP)
	@$(BIN)/greater-ray paper run all --scale smoke --out runs/paper-smoke

bench: $(STAMP)
	@$(BIN)/python benchmarks/bench_step.py

# All three are measured, whatever the first ones say; REPORTS=<folder> also writes dated reports there.
REPORTS ?=
bench-cluster: $(STAMP)
	@failed=0; for part in overhead scaling orchestrator; do \
		echo "== $$part"; \
		$(BIN)/python -m benchmarks.bench_cluster $$part \
			$(if $(REPORTS),--out $(REPORTS)/$${part}_$$(date +%F).md) || failed=1; \
	done; exit $$failed

# The real programs have dependencies of their own, so they live in an environment of their own. Without npm the line of
# promptfoo fails.
OTHERS := .venv-exports
OTHERS_STAMP := $(OTHERS)/.ready

$(OTHERS_STAMP): tests/others/requirements.txt tests/others/package.json
	@echo "== environment of the exports' programs"
	$(PYTHON) -m venv $(OTHERS)
	$(OTHERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/others/requirements.txt
	@cp tests/others/package.json $(OTHERS)/
	-cd $(OTHERS) && npm install --no-audit --no-fund --loglevel=error
	@touch $@

exports: $(STAMP) $(OTHERS_STAMP)
	@$(BIN)/python -m tests.others.check_exports $(OTHERS)

# A folder of its own, because whatever lies in a shipped folder is hashed and copied by `ray up`.
cluster-files: $(STAMP)
	@rm -rf dist/cluster build
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist/cluster .
	@cp constraints.txt dist/cluster/
	@ls dist/cluster

clean:
	rm -rf $(VENV) $(OTHERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
