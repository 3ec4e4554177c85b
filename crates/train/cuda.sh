#!/bin/sh
# What the feature `cuda` is built with where NVIDIA's toolkit is not installed: nvcc and its headers from PyPI, below DIR.
#
#   crates/train/cuda.sh DIR                 sets it up; DIR/environment says how to build with it
#   crates/train/cuda.sh DIR COMMAND...      and runs a command with it
#
# For x86-64 Linux with Python 3 and gcc. `cargo xtask --device cuda` finds what is below target/cuda.
#
# The program is made to open CUDA's libraries when it first needs them, so that it starts where there are none. candle asks cudarc to link
# to them instead, and a feature cannot take that back; but the compiler's own `--cfg` reaches cudarc's code (and with --target, its build
# script does not see it). So the linker needs libraries of these names, and nothing that is in them.
set -eu
[ $# -ge 1 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

# A driver of the 580 series loads what nvcc 13.0 makes, and nothing newer.
packages='nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96'
root=$dir/nvidia/cu13
if [ "$(cat "$dir/packages" 2>/dev/null || true)" != "$packages" ]; then
  rm -rf "$dir/nvidia" "$dir/packages"
  # shellcheck disable=SC2086  # several
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

# candle compiles its quantized and mixture-of-experts kernels to objects, which takes nine tenths of the time and which these nets never call:
# they become empty, and the linker drops what would need them. The rest, to PTX, is nvcc's.
nvcc=$dir/nvcc
cat > "$nvcc" <<EOF
#!/bin/sh
case " \$* " in *" -c "*) while [ "\$1" != -o ]; do shift; done; exec gcc -c -x c /dev/null -o "\$2";; esac
exec '$root/bin/nvcc' "\$@"
EOF
chmod +x "$nvcc"

# 80 is the oldest GPU that candle's kernels are made for here; newer ones translate them when they are loaded. (90 would be made into code for
# the H100 and H200 alone.)
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
