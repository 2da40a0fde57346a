# Everything needs Rust (cargo) and Python 3.11 or newer with pip; what else is needed goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
# The extension is rebuilt when one of these is newer than it.
SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml
DEMO := target/demo.pcap

.PHONY: help demo test man model-test kernel-test lint docs bench bench-instructions bench-stages bench-peers bench-flowscope soak fuzz fuzz-short mutants wheel dependencies clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    install into .venv, and show who initiated what in a small capture'
	@echo 'make test    every test, of Rust and of Python'
	@echo 'make model-test  every order in which threads may touch a table, and mutants that have to be caught (part of make test)'
	@echo 'make lint    formatting, lints, types and documentation, as CI checks them'
	@echo 'make docs    the documentation site, in target/site; fails where a link leads nowhere or a page asks another host'
	@echo 'make man     write the man pages of the commands anew'
	@echo 'make kernel-test  compare with the running kernel on random packets: SEEDS=1-200 MIXED=1-20 (needs root)'
	@echo 'make bench   benchmarks'
	@echo 'make bench-instructions  instructions a packet against the accepted counts; UPDATE=1 accepts them anew'
	@echo 'make bench-stages  nanoseconds and instructions a packet in the core, stage by stage: STAGES="A mix loss1" LABELS=1'
	@echo 'make bench-peers  beside other programs, and flowscope: TRACES="A B C loss1 mix" ROUNDS=3 FLOWS="1 100" B_PACKETS=20000000'
	@echo 'make soak    a stream killed at 1,000 random moments, floods of 50M sources, and a killed executor of Spark: KILLS=1000 SOURCES=50000000'
	@echo 'make fuzz    coverage-guided fuzzing of each target, SECONDS=60 long; fuzz-short: the short form of CI'
	@echo 'make mutants MODULE=python/conntrack_py/text.py  mutation testing of a Python or Rust file: TESTS=... MOST=300 SEED=19'
	@echo 'make wheel   a source distribution and a wheel for any Linux with glibc 2.28, checked and tried, in dist'
	@echo 'make dependencies  crates that differ from the reviewed list; UPDATE=1 writes the list anew'
	@echo 'PROFILE=release with demo or test builds the extension as a wheel has it'
	@echo 'make clean   remove what these made'

# Cargo profile of the extension: `checkout` compiles faster, `release` is that of a wheel, and is measured.
PROFILE ?= checkout
BUILT := .venv/.built-$(PROFILE)

$(BIN)/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

$(BIN)/maturin: $(BIN)/python
	$(BIN)/python -m pip install --quiet 'maturin>=1.9.4,<2'

# The Python files as they are in the checkout. Cargo says what it compiles; pip would hide it.
.venv/.built-%: $(BIN)/maturin $(SOURCES)
	@echo 'compiling the extension, profile $*: at first some minutes, nearly all for other crates; later only what has changed'
	$(BIN)/maturin develop --profile $*
	@rm -f .venv/.built-* && touch $@

.venv/.packages: $(BIN)/python pyproject.toml
	$(BIN)/python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	    print(*sum(extras.values(), []), sep="\n")' | $(BIN)/python -m pip install --quiet --requirement /dev/stdin
	@touch $@

.venv/.tools: .venv/.packages $(BUILT)
	@touch $@

$(DEMO): docs/demo.py $(BIN)/python
	@mkdir -p $(@D)
	$(BIN)/python docs/demo.py $@

# The commands and what they print are the README's opening.
demo: $(BUILT) $(DEMO)
	@set -e; for command in 'summary --top 4' 'track --format table --limit 8' 'policy suggest -o $(dir $(DEMO))policy.toml'; do \
	    echo "$$ $(BIN)/conntrack-py $$command $(DEMO)"; \
	    $(BIN)/conntrack-py $$command $(DEMO); \
	    echo; \
	done
	@echo 'The command is $(BIN)/conntrack-py, the capture $(DEMO), the policy $(dir $(DEMO))policy.toml. To go on, paste:'
	@echo
	@echo '    $(BIN)/conntrack-py policy check $(dir $(DEMO))policy.toml $(DEMO)'
	@echo '    $(BIN)/conntrack-py track --format jsonl $(DEMO)'
	@echo '    $(BIN)/conntrack-py --help'

test: .venv/.tools
	cargo test --locked --workspace --exclude conntrack-py
	$(MAKE) --no-print-directory model-test
	cargo test --locked --manifest-path benches/peers/Cargo.toml --target-dir target/peers
	$(BIN)/python -m pytest -n auto --dist loadgroup

# The same sources over modelled atomics.
model-test:
	cargo test --locked -p conntrack-track --features models --test loom

# Exit status 77 of the first command: the kernel cannot be asked here, and a line has said why.
SEEDS ?= 1-200
MIXED ?= 1-20
ANSWERS := target/kernel-answers

kernel-test: $(BIN)/python
	@$(BIN)/python tests/support/kernel_answers.py $(ANSWERS) --seeds $(SEEDS) --mixed $(MIXED); status=$$?; \
	if [ $$status = 77 ]; then echo 'skipped: kernel-test'; exit 0; fi; \
	[ $$status = 0 ] && CONNTRACK_KERNEL_ANSWERS=$(abspath $(ANSWERS)) \
	    cargo test --locked -p conntrack-track --test kernel random_packets -- --nocapture

lint: .venv/.tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo fmt --manifest-path benches/peers/Cargo.toml --check
	cargo clippy --manifest-path benches/peers/Cargo.toml --target-dir target/peers --all-targets --all-features --locked \
	    -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m mypy.stubtest conntrack_py._native
	$(MAKE) --no-print-directory docs

# The man pages that a wheel installs.
man: .venv/.tools
	$(BIN)/python docs/man.py rust/py/data/data/share/man/man1

# Not --quiet, which hides warnings from --strict as well. The variable is for an advertisement of the theme.
docs: .venv/.tools
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'target/site/index.html'

bench: .venv/.packages .venv/.built-release
	$(BIN)/python -m pytest benches/test_stages.py

# Traces and peers are made and built here; the programs of Debian are skipped where they are not installed. The mix needs
# the real captures beside the project, without which no file is made: the scripts say so, or fail with CI=true.
IMPERFECT := clean retransmission loss reordering loss1 reorder1 sack mid-stream wrap snaplen
MORE := $(IMPERFECT) mix
TRACES ?= A B C $(MORE)
ROUNDS ?= 3
FLOWS ?= 1 100 10000 1000000 10000000
B_PACKETS ?= 20000000
PEERS := target/bench
PEER_CRATE := --release --locked --manifest-path benches/peers/Cargo.toml --target-dir target/peers
TRACE_A := $(PEERS)/A.pcap
TRACE_B := $(PEERS)/B-$(B_PACKETS).pcap
TRACE_C := $(PEERS)/C.pcap
$(foreach name,$(MORE),$(eval TRACE_$(name) := $(PEERS)/$(name).pcap))
ALL_TRACES := $(TRACE_A) $(TRACE_B) $(TRACE_C) $(MORE:%=$(PEERS)/%.pcap)
# Smaller ones of the same names, for counts of instructions.
SMALL := $(PEERS)/small
ALL_SMALL := $(patsubst %,$(SMALL)/%.pcap,A $(MORE))

$(TRACE_A): MAKE_TRACE := --packets 1000000 --connections 50000 --seconds 60 --seed 4
$(TRACE_B): MAKE_TRACE := --packets $(B_PACKETS) --connections $$(($(B_PACKETS) / 20)) --snaplen 96 --seconds 600 --seed 2
$(TRACE_C): MAKE_TRACE := --packets 10000000 --connections 5000000 --snaplen 96 --seconds 60 --seed 3 --shape scan
$(TRACE_mix): MAKE_TRACE := --shape mix --packets 1000000
$(SMALL)/A.pcap: MAKE_TRACE := --packets 100000 --connections 5000 --seed 4
$(SMALL)/mix.pcap: MAKE_TRACE := --shape mix --packets 100000
$(foreach kind,$(IMPERFECT),$(eval $(TRACE_$(kind)): MAKE_TRACE := --shape $(kind)))
$(foreach kind,$(IMPERFECT),$(eval $(SMALL)/$(kind).pcap: MAKE_TRACE := --shape $(kind) --rounds 64))
$(TRACE_mix) $(SMALL)/mix.pcap: benches/mix.txt
$(ALL_TRACES) $(ALL_SMALL): $(wildcard benches/peers/src/*.rs) benches/peers/src/bin/make-trace.rs
	@mkdir -p $(@D)
	cargo run $(PEER_CRATE) --bin make-trace -- $@ $(MAKE_TRACE)

.venv-bench/.peers:
	$(PYTHON) -m venv .venv-bench
	for package in dpkt nfstream; do \
	    .venv-bench/bin/python -m pip install --quiet $$package || echo "$$package cannot be installed here"; \
	done
	@touch $@

# The table of stages is at the top of the script.
COUNT := $(PYTHON) benches/instructions.py
GATE := A mix retransmission
STAGES ?= $(GATE)
small = $(foreach name,$(1),$(name)=$(SMALL)/$(name).pcap)

bench-instructions: $(GATE:%=$(SMALL)/%.pcap)
	$(COUNT) $(call small,$(GATE)) $(if $(UPDATE),--update)

bench-stages: $(STAGES:%=$(SMALL)/%.pcap)
	cargo bench --locked -p conntrack-core --bench stages
	$(COUNT) $(call small,$(STAGES)) --stages $(if $(LABELS),--labels)

bench-peers: .venv/.built-release .venv-bench/.peers $(foreach trace,$(TRACES),$(TRACE_$(trace)))
	$(BIN)/python benches/peers.py $(foreach trace,$(filter-out $(MORE),$(TRACES)),$(trace)=$(TRACE_$(trace))) \
	    $(addprefix --more ,$(foreach trace,$(filter $(MORE),$(TRACES)),$(trace)=$(TRACE_$(trace)))) \
	    --rounds $(ROUNDS) --python .venv-bench/bin/python --output $(PEERS)/peers.md
	@echo
	@$(MAKE) --no-print-directory bench-flowscope

bench-flowscope:
	@mkdir -p $(PEERS)
	@cargo fetch --quiet --locked --manifest-path benches/peers/Cargo.toml || \
	    { echo 'skipped flowscope: its crate cannot be had here'; exit 0; }; \
	cargo run $(PEER_CRATE) --features compare --bin compare-flowscope -- $(ROUNDS) $(FLOWS) > $(PEERS)/flowscope.md && \
	cat $(PEERS)/flowscope.md

KILLS ?= 1000
JOBS ?= 2
SOURCES ?= 50000000
KINDS ?= half-open assured mixed

soak: .venv/.packages .venv/.built-release
	$(BIN)/python benches/kills.py --kills $(KILLS) --jobs $(JOBS)
	$(BIN)/python benches/floods.py --sources $(SOURCES) $(KINDS)
	CONNTRACK_SOAK=1 $(BIN)/python -m pytest -q tests/engines

# Without a sanitizer it runs on the stable toolchain; the core has no unsafe code for one to look at. The seeds are written
# here; the corpus beside the project, where there is one, is added to them.
SECONDS ?= 60
FUZZ := arrays capture checkpoint decode track
HOST = $(shell rustc -vV | sed -n "s/^host: //p")
SANCOV := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
SANCOV += -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
FUZZ_PYTHON := policy rulesets tables
START_FROM := $(wildcard ../shared/corpus/pcaps)

fuzz/corpus: fuzz/seeds.py docs/demo.py .venv/.tools
	$(BIN)/python fuzz/seeds.py $@
	@touch $@

fuzz: fuzz/corpus
	command -v cargo-fuzz > /dev/null || cargo install --locked cargo-fuzz
	for target in $(FUZZ); do \
	    cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target $(START_FROM) -- \
	        -max_total_time=$(SECONDS) -max_len=65536 || exit 1; \
	done
	$(BIN)/python -m pip install --quiet atheris || { echo 'skipped $(FUZZ_PYTHON): atheris cannot be had here'; exit 0; }; \
	for target in $(FUZZ_PYTHON); do \
	    $(BIN)/python fuzz/python/run.py $$target fuzz/corpus/$$target -max_total_time=$(SECONDS) -max_len=4096 || exit 1; \
	done

# For CI: seconds for each target of Rust, and the flags of cargo-fuzz without cargo-fuzz (a target triple keeps them away from
# build scripts). The targets of Python run in tests/test_fuzz.py.
fuzz-short: SECONDS := 5
fuzz-short: fuzz/corpus
	CARGO_PROFILE_RELEASE_OPT_LEVEL=1 RUSTFLAGS='$(SANCOV)' \
	    cargo build --release --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --bins \
	    --target $(HOST)
	for target in $(FUZZ); do \
	    target/fuzz/$(HOST)/release/$$target fuzz/corpus/$$target -max_total_time=$(SECONDS) -max_len=16384 -verbosity=0 \
	        -print_final_stats=1 -artifact_prefix=target/fuzz/ || exit 1; \
	done

wheel: .venv/.tools
	.ci/wheel

# The reviewed crates; cargo-deny, where it is installed, asks its database as well.
dependencies: $(BIN)/python
	$(BIN)/python tests/test_dependencies.py $(if $(UPDATE),--update)
	! command -v cargo-deny > /dev/null || cargo deny check

# At most MOST mutants, sampled by SEED; TESTS are pytest's arguments, or those of cargo test.
MOST ?= 300
SEED ?= 19
TESTS ?=

.venv/.mutants: .venv/.tools
	$(BIN)/python -m pip install --quiet 'cosmic-ray>=8.7,<9'
	@touch $@

mutants: .venv/.mutants
	@test -n '$(MODULE)' || { echo 'MODULE=... names a file, such as python/conntrack_py/text.py or rust/base/src/time.rs'; exit 2; }
	@case '$(MODULE)' in *.rs) command -v cargo-mutants > /dev/null || cargo install --locked cargo-mutants;; esac
	$(BIN)/python tests/mutants.py $(MODULE) --most $(MOST) --seed $(SEED) $(if $(TESTS),--tests $(TESTS))

clean:
	rm -rf .venv .venv-bench dist target python/conntrack_py/*.so
