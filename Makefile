# The entry point. `make` alone lists the targets; CI runs those of CHECKS.
#
# `make run ARGS="--user-listen 127.0.0.1:6001"` passes arguments on; DATA_DIR=… keeps the data in another folder.

.DEFAULT_GOAL := help
.PHONY: help run build fmt doc web settings-docs api-docs faults flood bench-delivery postgres nats pgbouncer clean-data ci

DATA_DIR ?= data
# The cargo profile of `make run`: dev, which compiles in minutes, or release, which is faster at run time.
PROFILE ?= dev
ARGS ?=
TEST_ARGS ?=
FAULTS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CARGO_BUILD_TARGET_DIR),target)
PARLANCE := $(TARGET_DIR)/debug/parlance
FIRST_BUILD := $(if $(filter dev,$(PROFILE)),about 4 minutes on two cores,much longer than with dev)
RUN := $(TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/parlance
# Seen by the checks, which run buf too.
export BUF := npx --yes @bufbuild/buf@1.75.0
# Most tests wait most of the time: for deadlines, restarts, other processes. So more run at a time than there are processors.
export RUST_TEST_THREADS ?= $(shell expr 2 '*' "$$(getconf _NPROCESSORS_ONLN)")
# No check leaves compiled Python behind.
export PYTHONDONTWRITEBYTECODE := 1

# `cargo test` adds the features of dev-dependencies (tokio's test-util), a plain `cargo build` does not, and a crate with
# other features is compiled again, with all that depend on it. So everything but `make run` builds the workspace with
# --examples: there are none, but then cargo resolves features as it does for tests, and compiles each crate once.
BUILD := cargo build --workspace --bins --examples

# Everything that CI runs, in this order: quick ones first, then those that compile, then those that need many tools.
CHECKS := fmt-check language size proto breaking api-docs-check deny lint doc test fuzz grpcurl transcripts backup-check \
	observability kubernetes web-check proxies clients containers
.PHONY: $(CHECKS)

help: ## List the targets
	@echo 'make TARGET, where TARGET is one of:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: postgres ## Start PostgreSQL in ./data and both services on 127.0.0.1:50051 and :50052 (PROFILE=release: optimised)
	@echo 'Building Parlance with profile $(PROFILE)$(if $(wildcard $(RUN)),,; the first time takes $(FIRST_BUILD))'
	@cargo build --profile $(PROFILE) --package parlance-standalone --bin parlance
	@# Nothing may be between make and the process: Ctrl-C must reach it, and make must wait for its end.
	@exec $(RUN) serve --data-dir '$(DATA_DIR)' $(ARGS)

test: postgres nats pgbouncer ## Run all tests, on their own PostgreSQL, which is removed afterwards
	$(BUILD)
	@# message-service once more with planted bugs: the stories prove that such bugs are found.
	cargo build --workspace --examples --bin message-service-planted --features message-service/planted-bugs
	@exec $(PARLANCE) with-postgres -- cargo test --workspace --no-fail-fast $(TEST_ARGS)

build: ## Build everything
	cargo build --workspace --all-targets

fmt: ## Format the sources
	cargo fmt --all

fmt-check: ## Fail when a source is not formatted
	cargo fmt --all --check

lint: ## Run clippy; a warning fails
	cargo clippy --workspace --all-targets --features message-service/planted-bugs,parlance-fuzz/engine -- -D warnings
	@# Once more what these features replace; tests have none of it.
	cargo clippy --workspace --lib --bins --examples -- -D warnings

doc: ## Build the Rust documentation; a warning fails
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --lib --bin parlance-bench --examples

web: ## Build the web client into web/dist, which is committed (needs Node.js)
	@python3 -m checks.web --build

web-check: postgres ## Check the web client: types, protocol, the committed build, and all of it in Chromium (needs Node.js)
	$(BUILD)
	@exec python3 -m checks.web

language: ## Check the language of comments, docs and messages, and the length of README.md
	@python3 -m checks.language

size: ## Check the length of Rust files and functions, and repeated lines
	@python3 -m checks.size

proto: ## Check style and format of the contract (needs Node.js)
	$(BUF) lint
	$(BUF) format --diff --exit-code

breaking: ## Check that the contract breaks no client of an earlier state (needs Node.js)
	@python3 -m checks.breaking

api-docs: ## Write docs/API.md from the comments in proto/ (needs Node.js)
	@python3 -m checks.api_docs --write

api-docs-check: ## Check that docs/API.md is up to date (needs Node.js)
	@python3 -m checks.api_docs

settings-docs: ## Write the table of settings in docs/OPERATIONS.md from the binaries' flags
	$(BUILD)
	PARLANCE_SETTINGS=write cargo test --workspace --test stories -- operations::settings

deny: ## Check advisories, licences and duplicates (needs cargo-deny)
	@python3 -m checks.deny

faults: postgres ## Inject faults under load: all, or FAULTS="kill-postgres=300 --senders 200" (--help)
	$(BUILD)
	@exec python3 -m checks.faults $(FAULTS)

flood: postgres ## Let hostile clients attack an optimised replica, and look at the calls of another client meanwhile
	$(BUILD)
	cargo build --release --bin message-service
	@PARLANCE_BINARIES='$(TARGET_DIR)/release' exec python3 -m checks.faults flood-with-hostile-clients=1

fuzz: ## Fuzz all that decodes foreign bytes: FUZZ_SECONDS or FUZZ_RUNS for each, FUZZ_PROFILE=fuzz-long: faster (needs Node.js)
	@exec python3 -m checks.fuzz

grpcurl: postgres ## Call every RPC with grpcurl, by reflection v1 and v1alpha (installs Go)
	$(BUILD)
	@exec python3 -m checks.grpcurl

transcripts: postgres ## Run the transcripts of README.md and docs/FIRST-STEPS.md (installs Go)
	$(BUILD)
	@exec python3 -m checks.transcripts

proxies: postgres ## Call through nginx, HAProxy and Envoy with the configurations of deploy/proxies (installs them, and Go)
	$(BUILD)
	@exec python3 -m checks.proxies

clients: postgres ## Build the example clients and run them through restarts (installs Go, Node.js, a JDK)
	$(BUILD)
	@exec python3 -m checks.clients

kubernetes: ## Check deploy/kubernetes against the Kubernetes API and the binaries (installs Go)
	$(BUILD)
	@exec python3 -m checks.kubernetes

observability: postgres ## Check alerts and dashboard against real services and a real Prometheus
	$(BUILD)
	@exec $(PARLANCE) with-postgres -- python3 -m checks.observability

backup-check: postgres ## Drill a disaster: back up under load, lose everything, restore on another server, resume
	$(BUILD)
	@exec python3 -m checks.backup

containers: ## Build the image, and use what docker-compose.yml starts while parts of it fail
	$(BUILD)
	@exec python3 -m checks.containers

ci: ## Run every check of CI and count them
	@python3 -m checks.ci $(CHECKS)

bench-delivery: postgres nats ## Measure the time from a commit to its delivery at another replica
	cargo build --package parlance-standalone --bin parlance
	cargo build --release --bins --package user-service --package message-service --package parlance-bench
	@exec $(PARLANCE) with-postgres -- $(TARGET_DIR)/release/parlance-bench delivery $(ARGS)

postgres: ## Install PostgreSQL's server programs unless they are installed
	@scripts/install-postgres

nats: ## Install nats-server unless it is installed (the tests use it)
	@scripts/install-nats

pgbouncer: ## Install PgBouncer unless it is installed (the tests use it)
	@scripts/install-pgbouncer

clean-data: ## Remove the data of `make run`, for good
	@# As root the cluster may be in another folder; the data folder then has a link to it.
	case "$$(readlink '$(DATA_DIR)/elsewhere')" in (/var/lib/parlance/*) rm -rf "$$(readlink '$(DATA_DIR)/elsewhere')" ;; esac
	rm -rf '$(DATA_DIR)'
