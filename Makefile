# Needs only make and Python 3.11 to 3.14 with venv; `make help` lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install run rag test test-skills bench lint format lock clean \
	console screenshots image image-check chart dashboards reference release-check commits bump

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9
UV_INSTALL := $(BIN)/uv pip install --python $(BIN)/python
# Tools that the kernel's tools start, such as uv, are the ones in the virtual environment.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python
ARGS ?=

# The first interpreter that exists and has the right version.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$python -c 'import sys; v = sys.version_info[:3]; sys.exit(not (3, 11) <= v < (3, 15) or (3, 14) <= v < (3, 14, 2))' 2>/dev/null \
	&& echo $$python && break; done)

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Install the kernel and its tools into .venv.

$(STAMP): requirements.lock pyproject.toml sdk/pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.14 found; name one with PYTHON=..." >&2; exit 1; }
	@echo "Installing into $(VENV) with $(PYTHON) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "error: $(PYTHON) cannot make a virtual environment (on Debian: apt install python3-venv)" >&2; \
		rm -rf $(VENV); exit 1; }
	@$(BIN)/uv --version 2>/dev/null | grep -q '^uv $(UV_VERSION)' || { \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	@$(UV_INSTALL) --require-hashes --requirement requirements.lock
	@$(UV_INSTALL) --no-deps --editable . --editable sdk
	@touch $@

run: $(STAMP) ## Build the example skills, start a kernel and run a skill.
	@$(RUN) -m tools.run

rag: $(STAMP) ## Answer QUESTION="..." from documents, with citations.
	@$(RUN) -m tools.rag

test: test-skills ## Run the tests of the kernel and the SDK; ARGS go to pytest.
	@$(RUN) -m pytest $(ARGS)

test-skills: $(STAMP) ## Build and compile what the tests run; `make test` does it, too.
	@$(RUN) -m tools.build_skills
	@$(RUN) -m tools.compile_skills

bench: $(STAMP) ## Print the table of benchmarks.
	@$(RUN) -m benchmarks $(ARGS)

lint: $(STAMP) ## Check style and types.
	@echo "ruff check"; $(BIN)/ruff check
	@echo "ruff format --check"; $(BIN)/ruff format --check
	@echo "mypy"; $(BIN)/mypy
	@echo "mypy (sdk)"; cd sdk && ../$(BIN)/mypy

format: $(STAMP) ## Put the code in order.
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: $(STAMP) ## Resolve the dependencies again.
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--quiet --output-file requirements.lock
	@$(MAKE) --no-print-directory $(STAMP)

console: ## Build the front end of the console into the package; needs Node.js.
	@cd console && npm ci --ignore-scripts --no-audit --no-fund && npm run build

screenshots: $(STAMP) ## Test the console in Chromium and write the pictures of the documentation.
	@WRITE_SCREENSHOTS=1 $(RUN) -m pytest tests/console/test_browser.py $(ARGS)

image: ## Build the container image with podman.
	podman build . --format docker --tag pharia-kernel

image-check: $(STAMP) ## Build the image on Debian packages and try it out; needs root.
	@$(RUN) -m tools.container_check $(ARGS)

chart: $(STAMP) ## Check the Helm chart: lint, render, compare with Kubernetes' schemas.
	@$(RUN) -m tools.go_tools helm
	@$(RUN) -m pytest tests/charts $(ARGS)

dashboards: $(STAMP) ## Write the Grafana dashboards of the chart.
	@$(RUN) -m tools.dashboards $(ARGS)

reference: $(STAMP) ## Write docs/reference from the code.
	@$(RUN) -m tools.reference $(ARGS)

release-check: $(STAMP) ## Make all that a release consists of in dist/, and try it out.
	@$(RUN) -m tools.release_check

RANGE ?= origin/main..HEAD
commits: $(STAMP) ## Check that the commits of RANGE are Conventional Commits.
	@$(BIN)/cz check --rev-range "$(RANGE)"

bump: $(STAMP) ## Make the next version from the commits: changelog, commit and tag.
	@$(BIN)/cz bump --yes $(ARGS)

clean: ## Remove what was built and installed.
	rm -rf $(VENV) .toolchains .rag skill_build_cache skills/*.wasm dist build *.egg-info \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
