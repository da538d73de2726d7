# Everything sets itself up: Python 3.11 or newer and a C compiler are all that must be there.
PYTHON ?= python3
VENV := .venv
UV := $(VENV)/bin/uv
READY := $(VENV)/.ready
RUN := $(VENV)/bin
VLLM := $(VENV)-vllm

.DEFAULT_GOAL := help
.PHONY: help demo test check golden bench serve docs study-judge study-simulator study-soak study-picker study-rollouts study-sharing demo-vllm test-vllm clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Tidegate needs Python 3.11 or newer; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(UV) || { echo "Setting up $(VENV) (once, about half a minute)"; \
		$(PYTHON) -m venv $(VENV) && $(RUN)/python -m pip install --quiet --disable-pip-version-check uv; }
	@$(UV) sync --quiet --locked
	@touch $@

demo: $(READY) ## Three updates of simulated servers, live, in two minutes
	@$(RUN)/tidegate demo

test: $(READY) check ## All checks and tests
	@$(RUN)/pytest -n 2 --dist loadfile

check: $(READY) ## Format, lint, types, import contracts: seconds
	@$(RUN)/ruff format --check --quiet . || { echo "run: $(RUN)/ruff format ." >&2; exit 1; }
	@$(RUN)/ruff check --quiet .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache > $(VENV)/.imports || { cat $(VENV)/.imports; exit 1; }

golden: $(READY) ## Rewrite the golden files; read the diff before you commit it
	@TIDEGATE_GOLDEN=1 $(RUN)/pytest tests/routing tests/rollout

bench: $(READY) ## Measure the gateway beside its peers (BENCH=--quick: see it work)
	@UV_PROJECT_ENVIRONMENT=$(VENV)-bench $(UV) sync --quiet --locked --no-default-groups --group bench
	@$(VENV)-bench/bin/python -m bench $(BENCH)

serve: $(READY) ## Run the gateway with the node example until Ctrl-C
	@$(RUN)/tidegate up -f examples/node

docs: $(READY) ## Rewrite the generated reference pages
	@$(RUN)/python docs/generate.py

study-judge: $(READY) ## Thousands of rollouts before the judge, beside other rules (STUDY=--quick)
	@UV_PROJECT_ENVIRONMENT=$(VENV)-study $(UV) sync --quiet --locked --group study
	@$(VENV)-study/bin/python study/judge.py $(STUDY)

study-simulator: $(READY) ## The simulator beside published numbers, and its virtual time
	@UV_PROJECT_ENVIRONMENT=$(VENV)-study $(UV) sync --quiet --locked --group study
	@$(VENV)-study/bin/python study/simulator.py $(STUDY)

study-soak: $(READY) ## Twenty minutes of load and trouble: memory, losses, leaks
	@UV_PROJECT_ENVIRONMENT=$(VENV)-study $(UV) sync --quiet --locked --group study
	@$(VENV)-study/bin/python study/soak.py $(STUDY)

study-picker: $(READY) ## The picker beside others, nine workloads in virtual time (half an hour)
	@UV_PROJECT_ENVIRONMENT=$(VENV)-study $(UV) sync --quiet --locked --group study
	@$(VENV)-study/bin/python study/picker.py $(STUDY)

study-rollouts: $(READY) ## Kill, abort, spoil and walk rollouts (minutes; see docs/results)
	@$(RUN)/pytest study/rollouts
	@$(RUN)/python study/walks.py

study-sharing: $(READY) ## Several workers beside one: cache hits and balance, with real processes
	@$(RUN)/python study/sharing.py $(STUDY)

demo-vllm: $(READY) ## Real vLLM servers updated, killed, stopped: 10 minutes, 2.5 GB
	@PYTHON=$(PYTHON) tests_vllm/install.sh $(VLLM) || exit 0; \
		TIDEGATE_VLLM_HOME=$(abspath $(VLLM)) $(RUN)/python -m tests_vllm.demo docs/results/vllm.md

test-vllm: $(READY) ## The same, and the simulator beside it, as tests (PAGE=FILE: tell it)
	@PYTHON=$(PYTHON) tests_vllm/install.sh $(VLLM) || exit 0; \
		TIDEGATE_VLLM_HOME=$(abspath $(VLLM)) TIDEGATE_VLLM_PAGE=$(PAGE) \
		$(RUN)/python -m pytest -o timeout=3000 tests_vllm

clean: ## Remove the virtual environment and all caches
	@rm -rf $(VENV) $(VENV)-bench $(VENV)-study $(VLLM) .mypy_cache .ruff_cache .hypothesis .pytest_cache
