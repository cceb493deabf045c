# Each recipe is one line; what is behind it is in Rust, but for pyftpdlib's tests, which are in Python.

.PHONY: build test conformance bench bench-micro report check lint doc clean

build: ; cargo build --release --workspace --bins
test: ; cargo build --workspace --bins && cargo test --workspace
conformance: ; python3 common/tests/pyftpdlib/conformance.py
bench: build ; ./target/release/arena run
bench-micro: ; cargo bench -p common
report: build ; ./target/release/arena report
check: build ; ./target/release/arena check
lint: ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings
doc: ; RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
clean: ; cargo clean
