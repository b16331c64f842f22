# Every target sets up .venv by itself (once: the stamp files say so). No system package, no
# compiler and no GPU is needed; any Python from 3.11 on will do: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev
PINS := pyproject.toml constraints.txt

# deepspeed must not try to compile its CUDA operators while it is installed.
export DS_BUILD_OPS := 0
# A search starts a dozen Python processes: without bytecode on disk each compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
ROUNDS ?= 4
.PHONY: faults help install quickstart test test-all test-fast fuzz check format clean

help:
	@echo "make quickstart  search ratio schedules for two languages on the embedded corpus"
	@echo "make test        run the tests (PYTEST='-k schedule' passes arguments on; FAULTS=1: the"
	@echo "                 short scenario of the faults, too)"
	@echo "make test-all    and those of minutes: kills, the paper's method from disk to score"
	@echo "make test-fast   those of them that take about a second at most, and start no Ray"
	@echo "make fuzz        each reader with 10,000 damaged inputs (INPUTS=300 for fewer)"
	@echo "make faults      throw some 110 faults at real searches (ROUNDS=4), 80 minutes;"
	@echo "                 ROUNDS=0: a short scenario"
	@echo "make check       ruff, formatting and mypy"
	@echo "make install     set up .venv to use raystt (the other targets do so by themselves)"
	@echo "make format      let ruff fix and format the sources"
	@echo "make clean       remove .venv and caches; keeps data/ and runs/"

install: $(DEMO)

# Hides a GPU, so that every machine runs, and prints, the same quickstart.
quickstart: $(DEMO)
	CUDA_VISIBLE_DEVICES= $(BIN)/raystt search search_spaces/quickstart.yaml

# Two processes for those without Ray; then those that start it, one by one: a second Ray on the
# same cores makes both wait. What PYTEST selects may lie in one of the parts alone.
SELECTED = $(if $(PYTEST),$(PYTEST) || test $$? = 5)
PLAIN = $(BIN)/python -m pytest -n 2 --dist loadfile -m "not ray $(1)" $(SELECTED)
ON_RAY = $(BIN)/python -m pytest -m "ray $(1)" $(SELECTED)

test: $(DEV)
	$(call PLAIN)
	$(call ON_RAY,and not long $(if $(FAULTS),,and not faults))

test-all: $(DEV)
	$(call PLAIN)
	$(call ON_RAY)

test-fast: $(DEV)
	$(call PLAIN,and not slow)

INPUTS := 10000
fuzz: $(DEV)
	FUZZ_INPUTS=$(INPUTS) $(BIN)/python -m pytest tests/fuzz $(PYTEST)

faults: $(DEV)
	RAYSTT_FAULTS=$(ROUNDS) $(BIN)/python -m pytest tests/faults $(PYTEST)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# $(call install,EXTRAS): uv where pip can get it (22 s instead of minutes), else pip alone.
define install
	if $(BIN)/python -m pip install --quiet -c constraints.txt uv \
	    && $(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '.[$(1)]'; then :; \
	else echo "uv could not install; going on with pip"; \
	    $(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[$(1)]'; fi
endef

# A stamp, not .venv/bin/python: that is there before pip is, should this be interrupted.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	    "raystt needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(DEMO): $(PINS) | $(VENV)/.created
	$(call install,demo)
	@touch $@

$(DEV): $(PINS) | $(VENV)/.created
	$(call install,demo$(comma)dev)
	@touch $@ $(DEMO)

comma := ,
