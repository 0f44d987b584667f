#!/usr/bin/env bash
# Makes the Python environment of the rivals: PyTorch, JAX, MKL, OpenBLAS. Argument: its folder, if not the usual one.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
environment="${1:-$here/target/python}"
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet numpy torch jax mkl intel-openmp scipy-openblas32
echo "ready: $environment"
