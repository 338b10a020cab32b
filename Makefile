# Two commands matter: `make demo` and `make test`. Each sets everything up on its first run.
# PYTHON names the interpreter, VENV the environment's folder.
.DEFAULT_GOAL := help
.PHONY: help demo demo-cluster soak test test-python test-plugins test-rust test-page test-packages \
	lint fmt fuzz bench docs proto \
	supply ready clean

export PYTHON
VENV ?= .venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 1800
# So many seconds after a lease has run out another server has to lead; more where a machine has
# other work.
SOAK_ALLOWANCE ?= 1
# What the extension is compiled for; where it moves, the binding is compiled again.
export PYO3_PYTHON ?= $(abspath $(BIN)/python)
CARGO := cargo
WORKSPACE := --manifest-path native/Cargo.toml --locked
# The tests of Rust code share the release build's compiled dependencies, but check what a release
# does not: overflow, and debug assertions.
CHECKED := --config profile.release.package.citychain-core.overflow-checks=true \
	--config profile.release.package.citychain-core.debug-assertions=true

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf 'make %-14s %s\n' "$$target" "$$text"; done

demo: ready ## Run a small city: submit, approve, prove, verify; EXPLORER=HOST:PORT then shows it
	@$(BIN)/citychain demo $(addprefix --explorer ,$(EXPLORER))

demo-cluster: ready ## Run three servers on one database, break them, and count
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m cluster

soak: ready ## The same for SOAK_SECONDS, half an hour
	@PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m cluster --seconds $(SOAK_SECONDS) \
		--allowance $(SOAK_ALLOWANCE)

test: test-python test-plugins test-rust test-page ## Run all tests of all languages

test-python: ready ## Run the tests of the Python package
	@.ci/tests $(BIN)/python -n auto

test-plugins: ready ## Run the tests of each plugin
	@for tests in plugins/*/tests; do \
		[ -d "$$tests" ] || continue; \
		echo "$$tests"; \
		.ci/tests $(BIN)/python -n auto "$$tests" || exit 1; \
	done

test-rust: ready ## Run the tests of the Rust code
	$(CARGO) test $(WORKSPACE) --workspace --exclude citychain-native --release $(CHECKED) --quiet

test-page: ready ## Run the tests of the explorer's page that need no browser
	@sh .ci/page $(BIN)/python test

test-packages: ready ## Build all packages; test them in fresh environments (slow)
	@$(BIN)/python -m pip install --quiet --group packages
	@.ci/tests $(BIN)/python tests/packages -m slow

lint: ready $(VENV)-build/made ## Run all linters and type checkers
	@$(BIN)/python -m pip install --quiet --group lint
	@sh .ci/lint $(BIN) $(VENV)-build/bin

fmt: ready ## Format the code of all languages
	@$(BIN)/python -m pip install --quiet --group lint
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(CARGO) fmt --manifest-path native/Cargo.toml --all
	$(CARGO) fmt --manifest-path native/fuzz/Cargo.toml

fuzz: ## Fuzz each target for FUZZ_SECONDS
	@sh .ci/fuzz $(FUZZ_SECONDS)

bench: ready ## Run each measurement; each prints JSON
	@for bench in bench/[!_]*.py; do echo "# $$bench"; $(BIN)/python "$$bench" || exit 1; done

docs: ready ## Build the documentation as a site, and check its links
	@$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -W --keep-going -n -E -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

proto: $(VENV)-build/made ## Generate the Python code of the wire contract again
	$(VENV)-build/bin/python proto/generate.py

supply: $(VENV)-supply/made ## Look up what is known against dependencies; list them in dist/
	@sh .ci/supply $(VENV)-supply/bin

ready:
	@sh .ci/setup $(VENV)

# Generated code is made with the oldest protobuf that may run it, so apart from the newest.
$(VENV)-build/made: pyproject.toml
	@$$(sh .ci/prerequisites) -m venv --clear $(VENV)-build
	@$(VENV)-build/bin/python -m pip install --quiet 'pip>=25.1'
	@$(VENV)-build/bin/python -m pip install --quiet --group build
	@touch $@

# The tools apart from what they look at.
$(VENV)-supply/made: pyproject.toml
	@$$(sh .ci/prerequisites) -m venv --clear $(VENV)-supply
	@$(VENV)-supply/bin/python -m pip install --quiet 'pip>=25.1'
	@$(VENV)-supply/bin/python -m pip install --quiet --group supply
	@touch $@

clean: ## Remove everything that was built
	rm -rf .venv .venv-* .tools build dist docs/_build *.egg-info plugins/*/*.egg-info plugins/*/build \
		native/target native/fuzz/target .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf citychain/explorer/static citychain/explorer/page/node_modules
	rm -f citychain/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
