# Names for the commands; each is a cargo command, but for those of CUDA.
.PHONY: pipeline status test lint doc nlp100 clean cuda-toolkit cuda-check

pipeline: ; cargo xtask pipeline
status:   ; cargo xtask status
nlp100:   ; cargo xtask pipeline --profile nlp100
test:     ; cargo test --workspace
lint:     ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings
doc:      ; cargo doc --workspace --no-deps
clean:    ; cargo clean

# What `--device cuda` is built with where NVIDIA's toolkit is not installed.
cuda-toolkit: ; crates/train/cuda.sh target/cuda

# The feature `cuda` on a machine without a GPU: it is linted, its kernels run in the emulator against the processor's results, the tests
# pass in that build, and the program starts. Some ten minutes the first time; needs a C++ compiler.
cuda-check:
	crates/train/cuda.sh target/cuda cargo clippy --package train --features cuda,emulator --all-targets -- -D warnings
	crates/train/cuda.sh target/cuda cargo test --package train --package nets --features train/cuda,train/emulator
	crates/train/cuda.sh target/cuda cargo build --package train --features cuda
	crates/train/cuda.sh target/cuda tests/cuda.sh
