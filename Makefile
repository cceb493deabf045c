# Each recipe is one line; what is behind it is in Rust, but for what drives pyftpdlib's tests and a browser, in Python.

.PHONY: build test clients conformance bench bench-full bench-client bench-peers bench-micro report check check-report fuzz lint doc clean

build: ; cargo build --release --workspace --bins
test: ; cargo build --workspace --bins && cargo test --workspace
clients: ; cargo build --workspace --bins && CI=true cargo test -p common --test architectures clients::
conformance: ; python3 common/tests/pyftpdlib/conformance.py
bench: build ; ./target/release/arena run
bench-full: build ; ./target/release/arena run --full
bench-client: build ; ./target/release/arena calibrate
bench-peers: build ; ./target/release/arena run --peers
bench-micro: ; cargo bench -p common
report: build ; ./target/release/arena report
check: build ; ./target/release/arena check
check-report: ; python3 bench/arena/tests/page/check.py
fuzz: fuzz-ftp fuzz-http
fuzz-%: ; mkdir -p target/fuzz/$* && cd common && cargo +nightly fuzz run $* ../target/fuzz/$* fuzz/corpus/$* -- -runs=1000000 -max_len=4096
lint: ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings
doc: ; RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
clean: ; cargo clean
