#!/usr/bin/env bash
# NumPy 2.4.6, CPython 3.11, Linux x86-64 with AVX2 or AVX-512.
# float32 sin and cos in a process whose rounding mode is not to the nearest: results lie above 1, by up to 46 steps of
# float32, and errors grow from 6.4e-8 to 1.2e-5, two hundred times as large. float64 sin and cos, and float32 exp2,
# expm1, log2, tan and tanh keep their bits or differ by a few steps.
# Why it matters: interval arithmetic and some solvers round upwards for a while, and call NumPy meanwhile.
#
# Output seen:
#   sin nearest: largest error 6.4e-08, largest result 1.0000000
#   sin upward: largest error 1.2e-05, largest result 1.0000055
#   cos nearest: largest error 6.3e-08, largest result 1.0000000
#   cos upward: largest error 1.2e-05, largest result 1.0000055
#   tanh upward: 2 steps from the result to nearest
# Date: 2026-12-01
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import ctypes

import numpy as np

libm = ctypes.CDLL("libm.so.6")
NEAREST, UPWARD = 0x000, 0x800  # of x86, <fenv.h>
x = np.linspace(0.01, 80, 100001).astype(np.float32)


def rounding(mode, f, x):
    libm.fesetround(mode)
    y = f(x)
    libm.fesetround(NEAREST)
    return y


for name in "sin", "cos":
    f = getattr(np, name)
    exact = f(x.astype(np.float64))
    errors = {}
    for mode, value in ("nearest", NEAREST), ("upward", UPWARD):
        y = rounding(value, f, x)
        errors[mode] = np.abs(y - exact).max(), np.abs(y).max()
        print(f"{name} {mode}: largest error {errors[mode][0]:.1e}, largest result {errors[mode][1]:.7f}")
    assert errors["nearest"][0] < 1e-7 and errors["nearest"][1] <= 1
    assert errors["upward"][0] > 1e-5 and errors["upward"][1] > 1.000005

steps = np.abs(rounding(UPWARD, np.tanh, x).view(np.int32) - np.tanh(x).view(np.int32)).max()
print(f"tanh upward: {steps} steps from the result to nearest")
assert steps < 10
PYTHON
