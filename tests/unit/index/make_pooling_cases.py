#!/usr/bin/env python3
"""Writes pooling_cases.h: Ward's clusters of made-up vectors, as SciPy finds them.

usage: make_pooling_cases.py > pooling_cases.h; clang-format -i pooling_cases.h

Vectors are numbers of a linear congruential generator, the same as in test_pooling.c, made unit
vectors; some lie close to others. Labels number the clusters in the order of their first members.
Made with SciPy 1.17.1.
"""

import numpy
from scipy.cluster.hierarchy import linkage

CASES = [(2, 3, [1, 2]), (40, 8, [1, 13, 39]), (150, 24, [2, 32, 50]), (301, 128, [8, 32, 101])]


def numbers(n, seed):
    out, state = [], seed
    for _ in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append((state >> 16) / 32768 - 1)
    return numpy.array(out)


def vectors(n, dim, seed):
    """Every third is another one, plus a quarter of noise."""
    made = numbers(n * dim, seed).reshape(n, dim)
    for i in range(2, n, 3):
        made[i] = made[i // 2] + made[i] / 4
    return made / numpy.linalg.norm(made, axis=1, keepdims=True)


def labels(joined, n, n_out):
    parents = list(range(2 * n - 1))
    for i in range(n - n_out):
        parents[int(joined[i, 0])] = parents[int(joined[i, 1])] = n + i
    seen = {}
    out = []
    for i in range(n):
        while parents[i] != i:
            i = parents[i]
        out.append(seen.setdefault(i, len(seen)))
    return out


def main():
    print("/* Written by make_pooling_cases.py: Ward's clusters as SciPy finds them. */")
    print("static const struct pooling_case {\n    int n, dim, n_out;\n    short labels[301];")
    print("} pooling_cases[] = {")
    for case, (n, dim, cuts) in enumerate(CASES):
        joined = linkage(vectors(n, dim, case + 1), "ward")
        for n_out in cuts:
            print(f"    {{{n}, {dim}, {n_out},\n     {{", end="")
            line = ""
            for label in labels(joined, n, n_out):
                if len(line) + len(str(label)) > 86:
                    print(line.strip(), end="\n      ")
                    line = ""
                line += f"{label}, "
            print(line.strip().rstrip(",") + "}},")
    print("};")


if __name__ == "__main__":
    main()
