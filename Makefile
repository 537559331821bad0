# Two commands do everything on a fresh machine with Rust, a C++ compiler, python3 with pip, and make:
#
#     make demo    train a small ONNX model on real data with FNGD, and check what was written back
#     make test    everything that continuous integration checks
#
# Both first put libtorch 2.11.0 where the build finds it, once per user (tools/libtorch.py; LIBTORCH wins).

CARGO ?= cargo

.PHONY: demo test build libtorch format clippy unit docs hostile conformance cases corpus support models methods clean

# A run directory is never overwritten, so each demo makes a new one, under target/.
demo: build
	target/release/fngd-cli train models/digits-cnn.onnx --data digits --epochs 40 --batch 32 --threads 1 --runs-dir target/demo
	@echo
	target/release/fngd-cli eval target/demo/latest/best.onnx --data digits

test: format clippy unit docs support

build: libtorch
	$(CARGO) build --release --locked -p fngd-cli -p fngd-engine

libtorch:
	@python3 tools/libtorch.py >/dev/null

format: libtorch
	$(CARGO) fmt --all --check

clippy: libtorch
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: libtorch cases
	$(CARGO) test --workspace --locked

# The backend tests of onnx: their cases (once, 20 seconds and 50 MB), and all of them run, with docs/support/conformance.json and
# docs/onnx-support.md written anew. `make unit` runs them too, and fails if the first would change.
conformance: libtorch cases
	$(CARGO) test -p fngd-tests --locked --test conformance -- --write
	python3 tools/support_table.py

cases:
	@python3 tests/conformance/make.py

# 20,000 broken and hostile model files (about three minutes), and docs/support/hostile.json written anew: what became of them. A
# slice of them is part of `make unit`.
hostile: libtorch
	$(CARGO) run -p fngd-tests --locked --bin hostile -- run 20000 docs/support/hostile.json

docs: libtorch
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# The support tables say what the checked-in results say (docs/support).
support:
	python3 tools/support_table.py --check

# The page about the methods, written anew from the catalogue. `make unit` fails if it would change.
methods:
	$(CARGO) run --locked -p fngd-cli -- optimizers --markdown > docs/methods.md.new && mv docs/methods.md.new docs/methods.md

# What PyTorch's exporters write for some seventy architectures, against what PyTorch computes: makes the files (target/corpus,
# about 6 GB, once), runs each, and writes docs/support/corpus.json and docs/onnx-support.md anew. PYTHON is one that has
# tests/corpus/requirements.txt; without it a virtual environment is made in target/corpus-python.
corpus: libtorch
	$(CARGO) build --locked -p fngd-tests --bin corpus_case
	python3 tests/corpus/start.py $(PYTHON)

# The larger model files, which are not in the repository (needs PyTorch: models/README.md).
models:
	python3 models/make.py --out target/models

clean:
	$(CARGO) clean
