#!/usr/bin/env python3
"""The polynomials of src/device/cpu/rows_vector.h and attention_*: fits that make the largest weighted
error least, by Lawson's iteration (reweighted least squares). Needs numpy and scipy."""

import numpy as np
from scipy.special import erfcx


def fit(basis, target, weight, rounds=2000):
    """Coefficients, and the largest weighted error that they leave."""
    share = np.full(len(target), 1 / len(target))
    best = None
    for _ in range(rounds):
        root = np.sqrt(share) * weight
        coefficients = np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)[0]
        error = np.abs((basis @ coefficients - target) * weight)
        if best is None or error.max() < best[1]:
            best = coefficients, error.max()
        share = share * error
        share /= share.sum()
    return best


def powers(x, first, last):
    return np.stack([x**k for k in range(first, last + 1)], 1)


def show(name, fitted):
    coefficients, error = fitted
    print(f"{name}: error {error:.1e}:", " ".join(f"{np.float32(c):.9g}" for c in coefficients))


def main():
    nodes = np.cos(np.linspace(0, np.pi, 1500))
    r = np.log(2) / 2 * 1.001 * nodes
    show("e^r = 1 + r + …, from r^2", fit(powers(r, 2, 6), np.exp(r) - 1 - r, np.exp(-r)))
    r = 0.501 * nodes
    for degree in 3, 6:
        show(f"2^r = 1 + …, degree {degree}", fit(powers(r, 1, degree), 2**r - 1, 2**-r))
    a = np.linspace(0, 7, 3000)
    tail = erfcx(a / np.sqrt(2)) / 2  # Φ(-a) e^(a²/2)
    show("Φ(-a) e^(a²/2) in t = 1 / (1 + 0.34 a), from t",
         fit(powers(1 / (1 + 0.34 * a), 1, 5), tail, a * np.exp(-a * a / 2)))


if __name__ == "__main__":
    main()
