# Each target is a line of cargo or a script. `make setup` installs what is missing and is run by the others.

export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(STUDIOS_TARGET_DIR),$(HOME)/.cache/studios-target)
export SQLX_OFFLINE ?= true
TOOLS := $(CARGO_TARGET_DIR)/tools
BIN := $(CARGO_TARGET_DIR)/debug
DOC ?= README.md

.PHONY: help setup run test check bench soak queries openapi

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup:           ## install what building and running lack: a C compiler, curl, PostgreSQL
	@scripts/setup.sh

run: setup       ## build, start everything on a private PostgreSQL, run the demo on DOC, stay up
	cargo build --package studios-cli --package core-service --bin studios --bin studios-extract
	$(BIN)/studios up --demo --doc "$(DOC)"

test: setup      ## every test, the faults, the browser and the README's commands included
	@scripts/setup.sh --tests $(TOOLS)
	cargo build --workspace --bins
	STUDIOS_SEED_SECONDS=60 cargo test --workspace

check: setup     ## format, lints, docs, licences, bans, unused dependencies, contracts
	@scripts/setup.sh --checks $(TOOLS)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	cargo deny --log-level error check licenses bans sources
	cargo machete
	$(TOOLS)/node_modules/.bin/buf lint proto
	$(TOOLS)/node_modules/.bin/validate-api gateway/openapi.json

bench: setup     ## what the product reaches and what this machine allows, in one table; then the parts, as medians
	cargo build --profile bench --package studios-cli
	$(CARGO_TARGET_DIR)/release/studios bench all
	cargo bench --workspace --benches

soak: setup      ## the long runs: the properties with many more seeds, the services and PostgreSQL killed again and again
	cargo build --workspace --bins
	PROPTEST_CASES=20000 STUDIOS_SEEDS=5000 cargo test --workspace --lib
	STUDIOS_CHAOS_SECONDS=300 STUDIOS_CHAOS_RUNS=2000 cargo test --package studios-tests nothing_is_lost -- --nocapture
	STUDIOS_TIMING_SAMPLES=2000 cargo test --package studios-tests as_long_as_a_wrong_password
	for round in 1 2 3 4 5; do STUDIOS_KILLS=4 cargo test --package studios-tests every_run_survives || exit 1; done

queries: setup   ## check every query against a fresh schema and write its offline data (.sqlx)
	scripts/queries.sh

openapi: setup   ## make gateway/openapi.json anew from the contracts; a test fails where it is out of date
	cargo run --package gateway --example openapi
