#!/usr/bin/env python3
"""Prints the polynomials of src/math: weighted minimax fits by Remez's exchange, computed with 60 digits.

    python3 -m venv target/venv && target/venv/bin/pip install mpmath numpy
    target/venv/bin/python tools/minimax.py [name ...]

Each fit minimises max |weight(x) · (f(x) − p(x))|, where the weight turns an error of the polynomial into a relative
error of the function. After each name stands the error, in bits, that is left once the coefficients are rounded.

`minimax.py fixture` prints tests/fixtures/math_f64.txt: function, argument and the value rounded to nearest, both as the
bits of an f64 in hex, and what the rounding took away, in ULP. `minimax.py powers` prints tests/fixtures/pow_f64.txt.
"""

import random
import struct
import sys

import numpy as np
from mpmath import mp, mpf

mp.dps = 60
GRID = 1500


def remez(f, weight, low, high, terms):
    """Coefficients, lowest first, of the best polynomial with `terms` terms on [low, high]."""
    low, high = mpf(low), mpf(high)
    middle, half = (low + high) / 2, (high - low) / 2
    # The system is solved in powers of t in [-1, 1], which keeps it well conditioned.
    ts = [-mp.cos(mp.pi * (i + mpf(1) / 2) / GRID) for i in range(GRID)]
    fs = [f(middle + half * t) for t in ts]
    ws = [weight(middle + half * t) for t in ts]
    chosen = sorted({int((i + 0.5) * GRID / (terms + 1)) for i in range(terms + 1)})
    for _ in range(60):
        rows = [[ts[i] ** k for k in range(terms)] + [(-1) ** n / ws[i]] for n, i in enumerate(chosen)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([fs[i] for i in chosen]))
        coefficients, level = list(solution)[:terms], abs(solution[terms])
        errors = [w * (y - mp.polyval(coefficients[::-1], t)) for t, y, w in zip(ts, fs, ws)]
        # One extremum from each run of equal sign.
        extrema = []
        for i, e in enumerate(errors):
            if extrema and (errors[extrema[-1]] > 0) == (e > 0):
                if abs(e) > abs(errors[extrema[-1]]):
                    extrema[-1] = i
            else:
                extrema.append(i)
        while len(extrema) > terms + 1:
            extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
        assert len(extrema) == terms + 1, "the error does not alternate: more digits or fewer terms"
        chosen = extrema
        if max(abs(e) for e in errors) < level * mpf("1.001"):
            break
    # p((x − middle) / half) in powers of x.
    powers = [mpf(0)] * terms
    for c in reversed(coefficients):
        shifted = [mpf(0)] * terms
        for k in range(terms):
            shifted[k] -= powers[k] * middle / half
            if k:
                shifted[k] += powers[k - 1] / half
        shifted[0] += c
        powers = shifted
    return powers


def show(name, precision, f, weight, low, high, terms):
    """Prints one fit as the coefficients of an f32 or f64 array, lowest first."""
    coefficients = remez(f, weight, low, high, terms)
    rounded = [precision(mp.nstr(c, 40)) for c in coefficients]
    exact = [mpf(float(c)) for c in rounded][::-1]
    low, high = mpf(low), mpf(high)
    grid = [low + (high - low) * (i + mpf(1) / 2) / GRID for i in range(GRID)]
    error = max(abs(weight(x) * (f(x) - mp.polyval(exact, x))) for x in grid)
    print(f"{name}: {terms} terms, error 2^{float(mp.log(error, 2)):.1f}")
    print("    [" + ", ".join(str(c) for c in rounded) + "]")
    print("    rest of the first:", precision(mp.nstr(coefficients[0] - exact[-1], 40)))


def split(value, precision, bits):
    """The leading `bits` bits of a value, and the rest rounded to `precision`."""
    _, exponent = mp.frexp(value)
    high = mp.nint(mp.ldexp(value, bits - exponent))
    high = mp.ldexp(high, exponent - bits)
    return precision(float(high)), precision(mp.nstr(value - high, 40))


def double(value):
    """The nearest f64 and what is left, as an f64."""
    front = np.float64(mp.nstr(value, 40))
    return front, np.float64(mp.nstr(value - mpf(float(front)), 40))


def away_from_zero(weight, floor):
    return lambda x: max(abs(weight(x)), mpf(floor))


def exp_tail(r):
    """(eʳ − 1 − r) / r²"""
    return mp.nsum(lambda k: r**k / mp.factorial(k + 2), [0, 40]) if abs(r) < 1e-3 else (mp.expm1(r) - r) / r**2


def exp2_tail(r):
    """(2ʳ − 1 − r ln 2) / r²"""
    return exp_tail(r * mp.ln2) * mp.ln2**2


def ln_tail(f):
    """(ln(1 + f) − f + f²/2) / f³"""
    return mp.fsum((-f) ** k / (k + 3) for k in range(30)) if abs(f) < 1e-3 else (mp.log1p(f) - f + f**2 / 2) / f**3


def atanh_tail(z):
    """(2 atanh(s) − 2 s) / s³ with z = s²"""
    return mp.fsum(2 * z**k / (2 * k + 3) for k in range(60))


def pow_tail(z):
    """(2 atanh(s) − 2 s − 2/3 s³) / s⁵ with z = s²"""
    return mp.fsum(2 * z**k / (2 * k + 5) for k in range(60))


def sin_tail(z):
    """(sin(x) − x) / x³ with z = x²"""
    return mp.fsum((-1) ** (k + 1) * z**k / mp.factorial(2 * k + 3) for k in range(30))


def cos_tail(z):
    """(cos(x) − 1 + x²/2) / x⁴ with z = x²"""
    return mp.fsum((-1) ** k * z**k / mp.factorial(2 * k + 4) for k in range(30))


def erf_ratio(z):
    """erf(x) / x − 1 with z = x²"""
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1


def ln_erfc_slope(low):
    """ln(erfc(low) / erfc(low + u)) / u"""
    return lambda u: mp.log(mp.erfc(low) / mp.erfc(low + u)) / u


def far(low, high):
    """What fits `ln_erfc_slope(low)` from low to high: the function, weight and bounds of u."""
    return ln_erfc_slope(low), away_from_zero(lambda u: u * mp.erfc(low + u), 1e-6), mpf(10) ** -6, high - low


def fits():
    f32, f64 = np.float32, np.float64
    half_ln2 = mpf("0.3467")
    as_exp = away_from_zero(lambda r: r**2 / mp.exp(r), 1e-4)
    as_exp_m1 = away_from_zero(lambda r: r**2 / mp.expm1(r) if r else mpf(0), 1e-3)
    half = mpf("0.5")
    as_exp2 = away_from_zero(lambda r: r**2 / 2**r, 1e-4)
    as_sin = away_from_zero(lambda z: z * mp.sqrt(z) / mp.sin(mp.sqrt(z)), 1e-4)
    as_cos = away_from_zero(lambda z: z**2 / mp.cos(mp.sqrt(z)), 1e-4)
    # (π/4)², and a little for arguments whose quotient by π/2 is rounded the other way.
    quarter = mpf("0.6172")
    as_erf = lambda z: 1 / (1 + erf_ratio(z))
    bound = mpf("0.8125")
    # (f/(2 + f))² for f = 1/2.
    fifth = mpf("0.04001")
    return {
        "exp f32": (f32, exp_tail, as_exp, -half_ln2, half_ln2, 5),
        "exp f64": (f64, exp_tail, as_exp, -half_ln2, half_ln2, 10),
        "exp2 f32": (f32, exp2_tail, as_exp2, -half, half, 5),
        "exp2 f64": (f64, exp2_tail, as_exp2, -half, half, 10),
        "exp_m1 f32": (f32, exp_tail, as_exp_m1, -half_ln2, half_ln2, 6),
        "exp_m1 f64": (f64, exp_tail, as_exp_m1, -half_ln2, half_ln2, 11),
        "ln f32": (f32, ln_tail, away_from_zero(lambda f: f**3 / mp.log1p(f) if f else mpf(0), 1e-3), -half / 2, half, 8),
        "ln f64": (f64, atanh_tail, away_from_zero(lambda z: z / 2, 1e-4), 0, fifth, 8),
        "pow f64": (f64, pow_tail, away_from_zero(lambda z: z**2 / 2, 1e-5), 0, fifth, 9),
        # In f64, also for f32.
        "sin f32": (f64, sin_tail, as_sin, mpf(10) ** -30, quarter, 4),
        "cos f32": (f64, cos_tail, as_cos, mpf(10) ** -30, quarter, 4),
        "sin f64": (f64, sin_tail, as_sin, mpf(10) ** -30, quarter, 6),
        "cos f64": (f64, cos_tail, as_cos, mpf(10) ** -30, quarter, 6),
        "erf f32 near": (f32, erf_ratio, as_erf, mpf(10) ** -30, bound**2, 6),
        "erf f64 near": (f64, erf_ratio, as_erf, mpf(10) ** -30, 1, 13),
        "erf f32 far": (f32, *far(bound, mpf(4)), 6),
        "erf f64 far": (f64, *far(mpf(1), mpf(6)), 19),
    }


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", float(x)))[0]


# Where 2 million random arguments and the 80-bit functions of the C library found the largest errors.
HARD = {
    "exp": [27.36840687050881, 367.03748858066677, -4.4938923291900412],
    "exp2": [29.567013319523589, -227.48111578098539, 27.520890509798424],
    "exp_m1": [0.35793076777948762, 0.36237241656668379],
    "ln": [0.70351819641588065, 0.73458677696392083, 0.74113986011279642],
    "log2": [0.73879637315495239, 1.4110835497535552],
    "log1p": [0.30098302317169234, -0.25878104696938353, 0.47123349055834207],
    "tanh": [0.17652411944990892, 0.17833111371327068, 0.18035956396024955],
    "sigmoid": [17.663349653646698, -25.308665795256388],
    "mish": [-21.123825209638909, -349.67755325864846],
    "erf": [0.99984764163055018, 0.97943761885900305, 1.0641291585633339],
    "silu": [9.3485609675246106, -658.13846043817739, -355.9216419140991],
    "log_sigmoid": [36.515747288966011, 36.524038932958483],
    "softplus": [36.517313783897862],
}


def arguments(name):
    """Every scale, the neighbourhood of each breakpoint and threshold, hard arguments, both signs."""
    random.seed(name)
    tiny = [random.uniform(1, 2) * 2.0 ** -random.randint(1, 1070) for _ in range(60)]
    unit = [random.uniform(0, 1) for _ in range(150)] + [random.uniform(0, 8) for _ in range(250)]
    big = [random.uniform(1, 2) * 2.0 ** random.randint(0, 1000) for _ in range(40)]
    edges = {
        "exp": [709.782712893384, 708.396418532264, 745.1332191019412, 0.34657359027997264, 1.0397207708399179],
        "exp_m1": [709.782712893384, 37.42994775023705, 0.34657359027997264, 1.0397207708399179],
        "exp2": [1023.0, 1024.0, 1022.0, 1074.0, 1075.0, 0.5, 1.5],
        "log2": [0.75, 1.5, 1.0, 2.0, 2.2250738585072014e-308],
        "log1p": [-0.25, 0.5, 1.0, 2.0**-53, 2.0**53],
        "log_sigmoid": [708.396418532264, 745.1332191019412, 36.7, 37.5],
        "softplus": [708.396418532264, 745.1332191019412, 20.0],
        "elu": [37.42994775023705, 0.34657359027997264, 1.0397207708399179],
        "gelu": [2**0.5, 6 * 2**0.5, 5.9],
        "gelu_tanh": [1.0, 6.0],
        "silu": [708.396418532264, 745.1332191019412, 752.0, 760.0, 36.7],
        "ln": [0.75, 1.5, 1.0, 2.0, 2.2250738585072014e-308],
        "tanh": [0.17328679513998632, 19.061547465398498, 20.0],
        "sigmoid": [709.782712893384, 745.1332191019412, 36.7, 37.5],
        "sin": [k * float(mp.pi) / 4 for k in (1, 2, 3, 4, 6, 10, 1001, 667543)] + [2.0**20, 6381956970095103 * 2.0**797],
        "cos": [k * float(mp.pi) / 4 for k in (1, 2, 3, 4, 6, 10, 1001, 667543)] + [2.0**20, 6381956970095103 * 2.0**797],
        "mish": [708.396418532264, 745.1332191019412, 752.0, 760.0, 36.7, 0.34657359027997264],
        "erf": [1.0, 5.9, 5.921587195794507, 6.0, 3.5],
    }[name]
    near = list(HARD.get(name, []))
    for edge in edges:
        for steps in range(-3, 4):
            x = edge
            for _ in range(abs(steps)):
                x = float(np.nextafter(x, np.inf if steps > 0 else -np.inf))
            near.append(x)
    if name in ("exp", "sigmoid", "exp_m1", "exp2", "log_sigmoid", "silu", "softplus", "mish"):
        big += [random.uniform(8, 750) for _ in range(200)]
    if name == "log1p":
        return tiny + unit + big + near + [-x for x in tiny + near if x < 1] + [x - 1 for x in unit if x < 1]
    if name in ("ln", "log2"):
        return tiny + unit + big + near + [1 + x for x in tiny] + [1 - x / 2 for x in tiny if x > 1e-16]
    return [x for x in tiny + unit + big + near for x in (x, -x)]


def fixture():
    functions = {
        "exp": mp.exp,
        "exp_m1": mp.expm1,
        "ln": mp.log,
        "exp2": lambda x: mp.mpf(2) ** x,
        "softplus": lambda x: x if x > 20 else mp.log1p(mp.exp(x)),
        "elu": lambda x: x if x > 0 else mp.expm1(x),
        "gelu": lambda x: x * mp.ncdf(x),
        "gelu_tanh": lambda x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3))),
        "log2": lambda x: mp.log(x) / mp.ln2,
        "log1p": mp.log1p,
        "log_sigmoid": lambda x: -mp.log1p(mp.exp(-x)),
        "silu": lambda x: x / (1 + mp.exp(-x)),
        "tanh": mp.tanh,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "erf": mp.erf,
        "sin": mp.sin,
        "cos": mp.cos,
        "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x))),
    }
    for name, f in functions.items():
        for x in arguments(name):
            if name.startswith("gelu") and x < 0:
                continue
            if abs(x) > 1e4 and name not in ("ln", "log2", "log1p", "sin", "cos"):
                # Beyond every threshold; the exact value has too large an exponent to compute.
                exact = {"exp": mp.inf if x > 0 else 0, "exp_m1": mp.inf if x > 0 else -1, "sigmoid": int(x > 0)}
                relu = {name: max(x, 0.0) for name in ("silu", "gelu", "gelu_tanh", "softplus", "mish")}
                exact |= relu | {"exp2": exact["exp"], "elu": x if x > 0 else -1, "log_sigmoid": min(x, 0.0)}
                y = mpf(exact.get(name, 1 if x > 0 else -1))
            else:
                # 1100 bits of π for the largest argument.
                with mp.workdps(400 if name in ("sin", "cos") else mp.dps):
                    y = f(mpf(x))
            value, rest = nearest(y)
            if value == 0 and (name == "log_sigmoid" or x < 0 and name in ("silu", "log1p", "tanh", "erf", "exp_m1", "elu", "mish")):
                value = -0.0
            print(f"{name.replace('exp_m1', 'expm1')} {bits(x):016x} {bits(value):016x} {rest:.3f}")


def powers():
    """Lines of function, base, exponent, value and rest: results from the smallest subnormal to the largest number."""
    random.seed("pow")
    pairs = []
    for _ in range(1500):
        kind = random.randint(0, 3)
        # Any base, one near 1, one between.
        x = 2.0 ** random.uniform(-1074, 1023) if kind == 0 else random.uniform(0.25, 4)
        if kind == 1:
            x = 1 + random.choice([1, -1]) * 2.0 ** -random.randint(2, 52) * random.uniform(1, 2)
        if x != 1:
            pairs.append(("pow", x, random.uniform(-1074, 1024) / float(mp.log(mpf(x), 2))))
    pairs += [("pow", x, y) for x in (0.5, 2.0, 10.0, 2.0**-1074, 1.7976931348623157e308) for y in (-1.0, 0.5, 1 / 3, 2.0, 3.0, 1.0)]
    pairs += [("pow", -x, y) for x in (0.3, 1.5, 7.0) for y in (-3.0, 2.0, 5.0, 101.0)]
    for _ in range(700):
        n = random.choice([-1, 1]) * int(2 ** random.uniform(0, 30))
        x = 2.0 ** max(-1074, min(1023, random.uniform(-1074, 1024) / n)) * random.choice([-1, 1])
        pairs.append(("powi", x, float(n)))
    for name, x, y in pairs:
        value, rest = nearest(mp.sign(x) ** int(y) * abs(mpf(x)) ** mpf(y) if x < 0 else mpf(x) ** mpf(y))
        print(f"{name} {bits(x):016x} {bits(y):016x} {bits(value):016x} {rest:.3f}")


def nearest(y):
    """The f64 nearest to y, subnormal results included, and y minus that in ULP."""
    if mp.isinf(y) or y == 0:
        return float(y), 0.0
    _, exponent = mp.frexp(y)
    unit = max(exponent - 53, -1074)
    scaled = mp.ldexp(y, -unit)
    rounded = mp.nint(scaled)
    value = mp.ldexp(rounded, unit)
    if abs(value) >= mpf(2) ** 1024:
        return float(mp.sign(y) * mp.inf), 0.0
    return float(value), float(scaled - rounded)


def main():
    if sys.argv[1:] in (["fixture"], ["powers"]):
        fixture() if sys.argv[1] == "fixture" else powers()
        return
    for name, fit in fits().items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            show(name, *fit)
    print("ln 2, f32 (15 bits + rest):", *split(mp.ln2, np.float32, 15))
    print("ln 2, f64 (41 bits + rest):", *split(mp.ln2, np.float64, 41))
    print("2/3, f64:", *double(mpf(2) / 3), " log2 e:", *double(1 / mp.ln2))
    parts, rest = [], mp.pi / 2
    for _ in range(3):
        parts.append(split(rest, np.float64, 33)[0])
        rest -= mpf(float(parts[-1]))
    print("pi/2, f64 (33 + 33 + 33 bits + rest):", *parts, np.float64(mp.nstr(rest, 40)))
    with mp.workdps(500):
        # 0, then 1280 bits behind the point of 2/pi.
        words = [int(mp.floor(mp.ldexp(2 / mp.pi, 64 * (i + 1)))) % 2**64 for i in range(20)]
        print("2/pi:", ", ".join(f"0x{word:016X}" for word in [0, *words]))
        print(f"pi/2 in 128 bits: 0x{int(mp.floor(mp.ldexp(mp.pi, 126))):032X}")


if __name__ == "__main__":
    main()
