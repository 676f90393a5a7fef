# The front door. `make` alone lists what there is; CI calls the same targets.
#
# `make run ARGS="--user-listen 127.0.0.1:6001"` passes arguments on; DATA_DIR=… keeps the data somewhere else.

.DEFAULT_GOAL := help
.PHONY: help run test web web-check build fmt fmt-check lint doc proto api-docs settings-docs deny
.PHONY: grpcurl clients kubernetes observability backup-check containers ci bench-delivery postgres nats clean-data

DATA_DIR ?= data
ARGS ?=
TEST_ARGS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CARGO_BUILD_TARGET_DIR),target)
PARLANCE := $(TARGET_DIR)/debug/parlance
BUF := npx --yes @bufbuild/buf@1.75.0

help: ## List the targets
	@echo 'make TARGET, where TARGET is one of:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: postgres ## Start everything: PostgreSQL in ./data, both services on 127.0.0.1:50051 and :50052
	cargo build --package parlance-standalone --bin parlance
	@# No word of our own between make and the process: Ctrl-C must reach it, and make must wait for its end.
	@exec $(PARLANCE) serve --data-dir '$(DATA_DIR)' $(ARGS)

test: postgres nats ## Run all tests, on a PostgreSQL of their own that is gone afterwards
	cargo build --workspace --bins
	@# One more of message-service, with bugs on purpose: the stories prove that such bugs are found.
	cargo build --package message-service --features planted-bugs --bin message-service-planted
	@exec $(PARLANCE) with-postgres -- cargo test --workspace $(TEST_ARGS)

web: ## Build the page anew into web/dist, which is committed (needs Node.js)
	@scripts/check-web --build

web-check: postgres ## Check the page: types, protocol, the committed build, and all of it in Chromium (needs Node.js)
	cargo build --package parlance-standalone --bin parlance
	@scripts/check-web

build: ## Build everything
	cargo build --workspace --all-targets

fmt: ## Format the sources
	cargo fmt --all

fmt-check: ## Fail when a source is not formatted
	cargo fmt --all --check

lint: ## Run clippy; a warning fails
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package message-service --all-targets --features planted-bugs -- -D warnings

doc: ## Build the Rust documentation; a warning fails
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

proto: ## Check the contract: style, format, nothing broken, docs/API.md up to date (needs Node.js, Python 3)
	$(BUF) lint
	$(BUF) format --diff --exit-code
	@BUF='$(BUF)' scripts/check-breaking
	@BUF='$(BUF)' scripts/api-docs --check

api-docs: ## Write docs/API.md anew, from the comments in proto/ (needs Node.js and Python 3)
	@BUF='$(BUF)' scripts/api-docs

deny: ## Check advisories, licences and duplicates (needs cargo-deny)
	cargo deny check

ci: fmt-check lint doc proto deny test grpcurl clients kubernetes observability backup-check web-check containers ## Everything that CI checks

kubernetes: ## Check the manifests in deploy/kubernetes, against the API and against the binaries
	cargo build --package user-service --package message-service --bins
	@scripts/check-kubernetes '$(TARGET_DIR)/debug'

settings-docs: ## Write the table of settings in docs/OPERATIONS.md anew, from what the binaries say
	cargo build --workspace --bins
	PARLANCE_SETTINGS=write cargo test --package parlance --test stories -- operations::settings

backup-check: postgres ## Drill: back up under load, lose everything, restore on another server, go on
	cargo build --workspace --bins
	@PARLANCE_BACKUP=full exec $(PARLANCE) with-postgres -- cargo test --package parlance --test stories -- operations::backup

bench-delivery: postgres nats ## Measure the time from a commit to its delivery at another replica
	cargo build --package parlance-standalone --bin parlance
	cargo build --release --bins --package user-service --package message-service --package parlance-bench
	@exec $(PARLANCE) with-postgres -- $(TARGET_DIR)/release/parlance-bench delivery $(ARGS)

observability: postgres ## Hold alerts and dashboard against real services and a real Prometheus
	cargo build --workspace --bins
	@exec $(PARLANCE) with-postgres -- scripts/check-observability

grpcurl: postgres ## Call every RPC with grpcurl, by reflection v1 and v1alpha; run README's transcript (needs Python 3)
	cargo build --workspace --bins
	scripts/check-grpcurl
	scripts/check-readme

clients: postgres ## Build the example clients and run them through restarts (installs Go, Node.js, a JDK)
	cargo build --workspace --bins
	@exec scripts/check-clients

containers: ## Build the image, and talk to what docker-compose.yml starts while parts of it fail
	cargo build --package parlance-standalone --bin parlance
	@exec scripts/check-containers

postgres: ## Install PostgreSQL's server programs unless they are there
	@scripts/install-postgres

nats: ## Install the server of NATS unless it is there (the tests use it)
	@scripts/install-nats

clean-data: ## Remove the data of `make run`, for good
	@# As root the cluster may lie elsewhere; the data folder then has a link to it.
	if [ -L '$(DATA_DIR)/elsewhere' ]; then rm -rf "$$(readlink '$(DATA_DIR)/elsewhere')"; fi
	rm -rf '$(DATA_DIR)'
