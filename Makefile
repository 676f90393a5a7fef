# The front door. `make` alone lists what there is; CI calls the same targets.
#
# `make run ARGS="--user-listen 127.0.0.1:6001"` passes arguments on; DATA_DIR=… keeps the data somewhere else.

.DEFAULT_GOAL := help
.PHONY: help run test web web-check build fmt fmt-check lint doc proto deny ci bench-delivery postgres nats clean-data

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

proto: ## Check the contract: style and format (needs Node.js)
	$(BUF) lint
	$(BUF) format --diff --exit-code

deny: ## Check advisories, licences and duplicates (needs cargo-deny)
	cargo deny check

ci: fmt-check lint doc proto deny test web-check ## Everything that CI checks

bench-delivery: postgres nats ## Measure the time from a commit to its delivery at another replica
	cargo build --package parlance-standalone --bin parlance
	cargo build --release --bins --package user-service --package message-service --package parlance-bench
	@exec $(PARLANCE) with-postgres -- $(TARGET_DIR)/release/parlance-bench delivery $(ARGS)

postgres: ## Install PostgreSQL's server programs unless they are there
	@scripts/install-postgres

nats: ## Install the server of NATS unless it is there (the tests use it)
	@scripts/install-nats

clean-data: ## Remove the data of `make run`, for good
	@# As root the cluster may lie elsewhere; the data folder then has a link to it.
	if [ -L '$(DATA_DIR)/elsewhere' ]; then rm -rf "$$(readlink '$(DATA_DIR)/elsewhere')"; fi
	rm -rf '$(DATA_DIR)'
