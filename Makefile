# Each recipe is one line; what is behind it is in Rust.

.PHONY: build test bench bench-peers bench-micro report check lint doc clean

build: ; cargo build --release --workspace --bins
test: ; cargo build --workspace --bins && cargo test --workspace
bench: build ; ./target/release/arena run
bench-peers: build ; ./target/release/arena run --peers
bench-micro: ; cargo bench -p common
report: build ; ./target/release/arena report
check: build ; ./target/release/arena check
lint: ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings
doc: ; RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
clean: ; cargo clean
