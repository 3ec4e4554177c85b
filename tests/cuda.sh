#!/bin/sh
# Checks a built program with the feature `cuda`: it starts without CUDA's libraries, and names what is missing when it should use a GPU.
# Run by `make cuda-check`.
set -eu
program=${CARGO_TARGET_DIR:-target}/$CARGO_BUILD_TARGET/debug/train
fail() { echo "error: $*" >&2; exit 1; }

if readelf -d "$program" | grep -E 'NEEDED.*(cuda|cublas|curand|nvrtc)'; then fail "$program is linked to CUDA's libraries"; fi
# A target with a letter runs on a single kind of GPU.
if grep -aqE '^\.target sm_[0-9]+[af]' "$program"; then fail "$program has kernels that run on a single kind of GPU"; fi
# knockline's own kernels are present.
for kernel in single_rows_128 single_rows_320 single_rows_512 single_batches multi_epoch; do
  grep -aq ".entry $kernel" "$program" || fail "$program has no kernel $kernel"
done
"$program" --help >/dev/null || fail "$program does not start"
if [ ! -e /proc/driver/nvidia ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
  status=0
  "$program" --node train.slp --set net=slp --artifacts "$out" --out "$out/run" --device cuda 2>"$out/said" || status=$?
  [ "$status" = 2 ] && grep -q '^error: NVIDIA.s driver (libcuda) was not found$' "$out/said" || {
    cat "$out/said" >&2
    fail "expected exit status 2 and the message that libcuda was not found; the exit status is $status"
  }
fi
echo "cuda: the program starts without CUDA's libraries and has its kernels"
