#!/bin/sh
# Builds the feature `cuda` without NVIDIA's toolkit, with nvcc and its headers from PyPI in DIR.
#
#   crates/train/cuda.sh DIR                 installs them; DIR/environment has the variables
#   crates/train/cuda.sh DIR COMMAND...      installs them and runs COMMAND with the variables
#
# For x86-64 Linux with Python 3 and gcc. `cargo xtask --device cuda` uses what is in target/cuda.
#
# The program opens CUDA's libraries when it first needs them, so that it also starts without them.
# candle makes cudarc link to them instead, and no feature can undo that. But a `--cfg` for the
# compiler reaches cudarc's code (and, with --target, not its build script). So the linker still
# looks for libraries of these names, but needs nothing from them.
set -eu
[ $# -ge 1 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

# A driver of the 580 series loads code from nvcc 13.0, but not from a newer one.
packages='nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96'
root=$dir/nvidia/cu13
if [ "$(cat "$dir/packages" 2>/dev/null || true)" != "$packages" ]; then
  rm -rf "$dir/nvidia" "$dir/packages"
  # shellcheck disable=SC2086  # several packages
  python3 -m pip install --quiet --no-deps --no-compile --target "$dir" $packages >&2
  echo "$packages" > "$dir/packages"
fi

libraries=$dir/libraries
mkdir -p "$libraries"
ln -sfn "$root/lib/libcudart_static.a" "$libraries/libcudart_static.a"
echo 'INPUT(-lcudart_static)' > "$libraries/libcudart.so"
for name in cuda cublas cublasLt curand nvrtc; do
  [ -e "$libraries/lib$name.so" ] || gcc -shared -x c /dev/null -Wl,-soname,"lib$name.so.1" -o "$libraries/lib$name.so"
done

# candle compiles its quantized and mixture-of-experts kernels to objects. That takes nine tenths of
# the time, and these nets never call them. So this wrapper makes the objects empty, and the linker
# drops the code that would need them. nvcc compiles the rest, to PTX.
nvcc=$dir/nvcc
cat > "$nvcc" <<EOF
#!/bin/sh
case " \$* " in *" -c "*) while [ "\$1" != -o ]; do shift; done; exec gcc -c -x c /dev/null -o "\$2";; esac
exec '$root/bin/nvcc' "\$@"
EOF
chmod +x "$nvcc"

# 80 is the oldest GPU that candle's kernels are built for here; newer GPUs translate them when they
# are loaded. (90 would build code for the H100 and H200 only.)
cat > "$dir/environment" <<EOF
CUDA_HOME=$root
NVCC=$nvcc
LIBRARY_PATH=$libraries${LIBRARY_PATH:+:$LIBRARY_PATH}
CUDARC_CUDA_VERSION=13000
CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
EOF
[ $# -gt 0 ] || exit 0
while IFS='=' read -r name value; do
  export "$name=$value"
done < "$dir/environment"
exec env -u CARGO_ENCODED_RUSTFLAGS RUSTFLAGS="${RUSTFLAGS:-} --cfg feature=\"dynamic-loading\"" \
  CARGO_BUILD_TARGET="$(rustc -vV | sed -n 's/^host: //p')" "$@"
