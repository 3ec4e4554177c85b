#!/usr/bin/env bash
# Runs the sample's graph by Snakemake and compares its artifacts with those of `cargo xtask pipeline`:
#
#   tests/snakemake.sh SNAKEMAKE ARTIFACTS
set -euo pipefail
snakemake=$1 artifacts=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo xtask graph --format snakemake --artifacts "$work/artifacts" > "$work/Snakefile"
export KNOCKLINE_BINARIES=$PWD/target/debug
"$snakemake" --snakefile "$work/Snakefile" --directory "$work" --dry-run --quiet all
"$snakemake" --snakefile "$work/Snakefile" --directory "$work" --cores 2 --quiet all 2> "$work/log" || {
  cat "$work/log" >&2
  exit 1
}
compared=0
for node in "$work"/artifacts/*/; do
  node=$(basename "$node")
  # What measures time differs: the sweep, and the report, which shows it.
  case $node in train.sweep | report) continue ;; esac
  diff -r --exclude manifest.json --exclude timings.jsonl --exclude tensorboard --exclude .snakemake_timestamp "$artifacts/$node" "$work/artifacts/$node"
  compared=$((compared + 1))
done
[ "$compared" -ge 11 ] || { echo "only $compared nodes were compared" >&2; exit 1; }
echo "$compared nodes have the same bytes"
