# Set-up, demo and tests; each sets up what is missing. Afterwards plain `cargo build` and
# `cargo test` work too. One build profile serves all three: the first run compiles for ten
# to twenty minutes on two cores, later runs start at once.
#
# Without libtorch or Python (and the same for test):
#   make demo FEATURES="--no-default-features --features cli,stores"

FEATURES ?=
DEMO_DIR ?= runs/demo
# Here, wherever make was called from.
TOP := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))

.PHONY: setup demo test

setup:
	@command -v cargo >/dev/null || { echo "setup: cargo is missing; install it from https://rustup.rs" >&2; exit 1; }
	@$(if $(FEATURES),:,"$(TOP)src/libtorch/fetch.sh" || { echo 'setup: here: make demo FEATURES="--no-default-features --features cli,stores"' >&2; exit 1; })

# `cargo run --bin` would choose other features of shared dependencies and compile them again.
demo: setup
	cd "$(TOP)" && cargo build $(FEATURES)
	cd "$(TOP)" && "$${CARGO_TARGET_DIR:-target}/debug/understudy" demo --dir $(DEMO_DIR)

# Trainers run concurrently there: waiting threads of libgomp must not spin.
test: export OMP_WAIT_POLICY ?= passive
test: setup
	cd "$(TOP)" && cargo test $(FEATURES)
