# Names for the commands; each is a cargo command.
.PHONY: pipeline status test lint doc nlp100 clean

pipeline: ; cargo xtask pipeline
status:   ; cargo xtask status
nlp100:   ; cargo xtask pipeline --profile nlp100
test:     ; cargo test --workspace
lint:     ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings
doc:      ; cargo doc --workspace --no-deps
clean:    ; cargo clean
