"""Scalar functions that compiled loops are made of: numba puts them into the loops, as vector instructions."""

import numpy as np

from cpu.compiler import inline


@inline
def exp(x):
    """e**x for x ≤ 0 in plain arithmetic, which, unlike math.exp, becomes vector instructions. 0 below -87.

    x = n·ln 2 + r with |r| ≤ ln 2 / 2; Taylor's series of e**r to r⁷/7!, error below 1e-8; n into the exponent.
    """
    exponent = np.int32(x * np.float32(1.44269504) - np.float32(0.5))  # rounded: conversion cuts towards 0
    n = np.float32(exponent)
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)  # ln 2 in two parts, the first of few bits
    power = np.float32(1 / 5040) * r + np.float32(1 / 720)
    power = power * r + np.float32(1 / 120)
    power = power * r + np.float32(1 / 24)
    power = power * r + np.float32(1 / 6)
    power = power * r + np.float32(0.5)
    power = power * r + np.float32(1.0)
    bits = np.float32(power * r + np.float32(1.0)).view(np.int32)
    scaled = np.int32(bits + np.int32(exponent << np.int32(23))).view(np.float32)
    return np.float32(0.0) if x < np.float32(-87.0) else scaled


@inline
def standard_normal(x):
    """Density φ(x) and distribution function Φ(x) of the standard normal, absolute error about 1e-7.

    Φ(-t) / φ(t) is smooth in s = 1 / (1 + 0.28 t), t ≥ 0; the polynomial is a weighted least-squares fit to scipy's
    erfcx, found for this project. gelu(x) = x·Φ(x), its derivative Φ(x) + x·φ(x).
    """
    bell = exp(np.float32(-0.5) * x * x)
    s = np.float32(1.0) / (np.float32(1.0) + np.float32(0.28) * abs(x))
    tail = np.float32(-0.10703256) * s + np.float32(0.39492667)
    tail = tail * s + np.float32(-0.24528033)
    tail = tail * s + np.float32(0.27566010)
    tail = tail * s + np.float32(0.06476690)
    tail = (tail * s + np.float32(0.11695920)) * s * bell
    return bell * np.float32(0.39894228), tail if x < np.float32(0.0) else np.float32(1.0) - tail


@inline
def is_kept(index, key, other_key, threshold):
    """Whether dropout keeps element `index`: a hash of the index and two keys, uniform over uint32, ≥ threshold.

    Multipliers and shifts are those of Chris Wellons' hash "lowbias32"; the second key enters between its rounds.
    numba would widen uint32 arithmetic to 64 bits, hence the many casts.
    """
    h = np.uint32(np.uint32(index) + key)
    h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
    h = np.uint32(h * np.uint32(0x7FEB352D))
    h = np.uint32(h ^ other_key)
    h = np.uint32(h ^ np.uint32(h >> np.uint32(15)))
    h = np.uint32(h * np.uint32(0x846CA68B))
    h = np.uint32(h ^ np.uint32(h >> np.uint32(16)))
    return h >= threshold


@inline
def ordered(bits):
    """A float's bits → integer in the same order, and back."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inline
def largest_of(row, mask):
    """row [L] += mask. Returns the largest, NaN if there is one.

    It is found among the scores' bits, as integers in the same order: a vectorised maximum of floats would have to
    ignore NaN.
    """
    highest = np.int32(-(2**31) + 1)
    for j in range(row.size):
        row[j] += mask[j]
        highest = max(highest, ordered(np.float32(row[j]).view(np.int32)))
    return np.int32(ordered(highest)).view(np.float32)
