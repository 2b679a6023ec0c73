"""Which calibration sequences a seed chooses: C++'s std::mt19937_64 from a std::seed_seq, by which
the figures of docs/figures.md were made. Pure."""
from __future__ import annotations

from typing import Iterator

_32, _64 = (1 << 32) - 1, (1 << 64) - 1
_STATE, _SHIFT = 312, 156
_UPPER = ~((1 << 31) - 1) & _64


def _seed_words(seed: list[int], count: int) -> list[int]:
    """std::seed_seq::generate of at least 623 words (C++ standard, [rand.util.seedseq])."""
    words = [0x8B8B8B8B] * count
    span = 11
    p = (count - span) // 2
    q = p + span

    def mixed(value: int) -> int:
        return value ^ (value >> 27)
    for k in range(count):
        i, at_p, at_q = k, (k + p) % count, (k + q) % count
        first = 1664525 * mixed(words[i] ^ words[at_p] ^ words[i - 1]) & _32
        more = len(seed) if k == 0 else i + (seed[k - 1] if k <= len(seed) else 0)
        second = (first + more) & _32
        words[at_p] = (words[at_p] + first) & _32
        words[at_q] = (words[at_q] + second) & _32
        words[i] = second
    for i in range(count):
        at_p, at_q = (i + p) % count, (i + q) % count
        first = 1566083941 * mixed((words[i] + words[at_p] + words[i - 1]) & _32) & _32
        second = (first - i) & _32
        words[at_p] ^= first
        words[at_q] ^= second
        words[i] = second
    return words


def random_numbers(seed: list[int]) -> Iterator[int]:
    """What std::mt19937_64 gives after a std::seed_seq of these words of 32 bits."""
    words = _seed_words(seed, 2 * _STATE)
    state = [words[2 * i] | words[2 * i + 1] << 32 for i in range(_STATE)]
    while True:
        for i in range(_STATE):
            y = (state[i] & _UPPER) | (state[(i + 1) % _STATE] & ~_UPPER & _64)
            state[i] = state[(i + _SHIFT) % _STATE] ^ (y >> 1) ^ (0xB5026F5AA96619E9 if y & 1 else 0)
        for x in list(state):
            x ^= (x >> 29) & 0x5555555555555555
            x ^= (x << 17) & 0x71D67FFFEDA60000
            x ^= (x << 37) & 0xFFF7EEE000000000 & _64
            yield (x ^ (x >> 43)) & _64


def choose(count: int, k: int, seed: int) -> list[int]:
    """k different numbers below count, ascending. Needs k <= count."""
    numbers = random_numbers([seed & _32, seed >> 32])
    everything = list(range(count))
    for i in range(count, 1, -1):
        j = next(numbers) % i
        everything[i - 1], everything[j] = everything[j], everything[i - 1]
    return sorted(everything[:k])
