# Everything runs in .venv; `make test` on a fresh clone sets it up and runs every check.
#
#   make test    set up, then all checks     make check   all checks in the environment at hand
#   make demo    set up, then the demo       make bench   set up, then the step benchmark
#   make paper-smoke   set up, then every table of the papers at the scale of a laptop (under an hour on two cores)
#   make exports   set up, then every export opened in its real program and taken back (about 10 minutes, from the index)
#   make clean   remove .venv and caches   make cluster-files   what deploy/ ships to the machines of a cluster
#   make long    set up, then the tests that take a minute or more each
#   make fuzz    set up, then hundreds of wrong inputs (two minutes)   make faults   a small grid under random faults (an hour)
#   make notebooks   set up, then execute examples/notebooks into runs/notebooks, with their outputs
#   make bench-gpu   what one GPU makes of a step (under 9 minutes on an H100; OUT=<file> writes a report)
#   make bench-cluster   set up, then what Ray and the orchestration cost (about 20 minutes, on a machine at rest)
#   make docs    set up, then the documentation as a site that opens from disk, dist/site/index.html
#   make release   wheel and sdist into dist/release, checked and tried in a new environment
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

PIP_INSTALL := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt

.PHONY: setup test check static lint types layers site unit long faults fuzz demo docs exports notebooks paper-smoke bench bench-gpu bench-cluster cluster-files \
	release clean

setup: $(STAMP)

# Made anew when a dependency changes. torch comes first, on its own, so that its index serves torch alone. A third of the
# time: the pip that comes with Python 3.11 takes 20 s longer to resolve, and pip compiles one file after the other. Some
# files are for a newer Python and do not compile.
$(STAMP): pyproject.toml constraints.txt
	@echo "== environment"
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP_INSTALL) -e '.[dev]'
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/' $$($(BIN)/python -c 'import site; print(*site.getsitepackages())') || true
	@touch $@

test: $(STAMP)
	@$(MAKE) --no-print-directory check

# The cheapest first. Types and pages are checked beside the tests, which wait for Ray a part of their time.
check:
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory layers
	@$(MAKE) --no-print-directory -j 2 static unit

static:
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory site

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

# Warnings and broken links end it; only what has changed is made anew.
site:
	@echo "== documentation"
	@$(BIN)/python docs/site/build.py

# In three processes: two begin with the tests that start Ray, which wait for a part of their time.
unit:
	@echo "== pytest"
	@$(BIN)/python -m pytest -n 3

# What takes a minute or more each.
long: $(STAMP)
	@echo "== pytest, long ones"
	@$(BIN)/python -m pytest -m long

# Two hundred rounds are an hour or more on two cores; the same command goes on behind the last one. ROUNDS=<n> of each kind.
ROUNDS ?= 20
faults: $(STAMP)
	@$(BIN)/python -m benchmarks.faults --rounds $(ROUNDS) --work runs/faults

fuzz: $(STAMP)
	@$(BIN)/python -m benchmarks.fuzz

docs: $(STAMP)
	@$(MAKE) --no-print-directory site

demo: $(STAMP)
	@$(BIN)/python pipelines/bbh_grid.py --preset demo --set settings.task.data=$(DATA) --out runs/demo
	@$(BIN)/greater-ray report runs/demo

notebooks: $(STAMP)
	@$(BIN)/python examples/execute_notebooks.py runs/notebooks

paper-smoke: $(STAMP)
	@$(BIN)/greater-ray paper run all --scale smoke --out runs/paper-smoke

# BENCH="--steps 1" takes a third of the time.
BENCH ?=
bench: $(STAMP)
	@$(BIN)/python -m benchmarks.bench_step $(BENCH)

# ARGS='--device cpu --tiny' shows the mechanics on a machine without a GPU.
OUT ?=
bench-gpu: $(STAMP)
	@$(BIN)/python -m benchmarks.bench_gpu $(ARGS) $(if $(OUT),--out $(OUT))

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

# The wheel is built from the sdist, so the sdist has all that is needed. Both environments are new.
RELEASE := dist/release
RELEASE_TOOLS := build/release-tools
RELEASE_TRY := build/release-try
# Else the sources could be imported in the place of the wheel.
release: export PYTHONPATH :=
release:
	@rm -rf $(RELEASE) $(RELEASE_TOOLS) $(RELEASE_TRY)
	@echo "== build"
	@$(PYTHON) -m venv $(RELEASE_TOOLS)
	@$(RELEASE_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build twine
	@$(RELEASE_TOOLS)/bin/python -m build --outdir $(RELEASE) . >$(RELEASE_TOOLS)/log 2>&1 || { cat $(RELEASE_TOOLS)/log; exit 1; }
	@echo "== archives"
	@$(RELEASE_TOOLS)/bin/python release/check_archives.py $(RELEASE)
	@$(RELEASE_TOOLS)/bin/twine check --strict $(RELEASE)/*
	@echo "== the wheel in a new environment"
	@$(PYTHON) -m venv $(RELEASE_TRY)
	@$(RELEASE_TRY)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@$(RELEASE_TRY)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(RELEASE)/*.whl
	@cd $(RELEASE_TRY) && bin/python -m pip check
	@cd $(RELEASE_TRY) && bin/python -c "import greater_ray; print('imported', greater_ray.__version__, 'from', greater_ray.__file__)"
	@cd $(RELEASE_TRY) && bin/greater-ray --version
	@cd $(RELEASE_TRY) && bin/greater-ray --help >/dev/null && echo "greater-ray --help: ok"
	@cd $(RELEASE_TRY) && bin/greater-ray list methods
	@echo "release: $(RELEASE) holds what can be uploaded; it was not uploaded"

clean:
	rm -rf $(VENV) $(OTHERS) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
