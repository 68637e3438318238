# The words the README uses; CI calls the same ones. `make help` prints this.
#   make run            builds, starts the service, answers a first prompt; so does `make` alone
#   make stop           stops what `make run` started
#   make build          the programs, into target/release
#   make test           every check and test, as CI runs it
#   make check-macos    type-checks the macOS code, on Linux too
#   make bench          the measures of BENCHMARKS.md
#   make bench-peers    llama.cpp beside this engine in one run; builds it first, in about a quarter of an hour
#   make bench-serving  llama-server beside this house over HTTP, in one run; also builds it first
#   make bench-cheap    how many requests that ask no model a second brings; URL= and KEY= name another server
#   make soak           a hundred kills under 32 streams, then ten minutes of mixed work with flat memory
#   make fuzz           throws mutations of known bytes at every parser of outside bytes, FUZZ_SECONDS (60) at each; ends at
#                       an input that takes more than 512 MiB or a minute

SHELL := /bin/bash
.DEFAULT_GOAL := run
.PHONY: help run stop build test check-macos bench bench-peers bench-serving bench-cheap soak fuzz

PROMPT ?= What is Impetus?
CTL := target/release/impetusctl
export IMPETUS_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

help:
	@sed -n 's/^#   //p' $(MAKEFILE_LIST)

run: build
	@$(CTL) serve --detach
	@echo
	@echo "> $(PROMPT)"
	@$(CTL) run --verbose "$(PROMPT)"
	@echo
	@echo "Over HTTP:     curl $$($(CTL) status --json | sed -n 's/^  "http": "\(.*\)",$$/\1/p')/v1/chat/completions \\"
	@echo "                 -H \"Authorization: Bearer \$$($(CTL) key show)\" -H 'Content-Type: application/json' \\"
	@echo "                 -d '{\"model\": \"impetus-nano\", \"messages\": [{\"role\": \"user\", \"content\": \"$(PROMPT)\"}]}'"
	@echo "A real model:  $(CTL) pull Qwen/Qwen3-0.6B, then $(CTL) chat --model Qwen/Qwen3-0.6B"
	@echo "Stop:          make stop"

stop:
	@$(CTL) stop

build:
	@tools/bootstrap.sh run
	@cargo build --release --locked -p impetusd -p worker -p impetusctl -p impetus-http

test:
	@tools/bootstrap.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	tools/darwin-check/check.sh
	cargo build --workspace --bins --locked
	tests/sdk/run.sh
	tools/mlx-linux/test.sh
	cargo test --workspace --locked

check-macos:
	@tools/darwin-check/check.sh

bench:
	@tools/bootstrap.sh run
	cargo build --release --locked --workspace --bins
	cargo run --release --locked -p benches

bench-peers:
	@tools/bootstrap.sh run
	@benches/peers/run.sh peers $(WORK)

bench-serving:
	@tools/bootstrap.sh run
	@benches/peers/run.sh serving-peers $(WORK)

bench-cheap: build
	@benches/cheap.sh $(URL) $(KEY)

fuzz:
	@tools/bootstrap.sh run
	cargo run --release --locked -p fuzz --example mutate -- $(or $(FUZZ_SECONDS),60) $(or $(FUZZ_SEED),1) $(TARGET)

soak:
	@tools/bootstrap.sh run
	cargo build --release --locked --workspace --bins
	cargo run --release --locked -p tests --example soak
