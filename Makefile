# Short names for commands. All but those for CUDA are plain cargo commands.
.PHONY: pipeline status test lint doc nlp100 clean cuda-toolkit cuda-check

pipeline: ; cargo xtask pipeline
status:   ; cargo xtask status
nlp100:   ; cargo xtask pipeline --profile nlp100
test:     ; cargo test --workspace
lint:     ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings
doc:      ; cargo doc --workspace --no-deps
clean:    ; cargo clean

# Downloads what `--device cuda` is built with, if NVIDIA's toolkit is not installed.
cuda-toolkit: ; crates/train/cuda.sh target/cuda

# Checks the feature `cuda` on a machine without a GPU: lints it, compares its kernels in the
# emulator with the processor's results, runs the tests in that build, and starts the program. Takes
# about ten minutes the first time; needs a C++ compiler.
cuda-check:
	crates/train/cuda.sh target/cuda cargo clippy --package train --features cuda,emulator --all-targets -- -D warnings
	crates/train/cuda.sh target/cuda cargo test --package train --package nets --features train/cuda,train/emulator
	crates/train/cuda.sh target/cuda cargo build --package train --features cuda
	crates/train/cuda.sh target/cuda tests/cuda.sh
