"""How long to wait before a call is tried again: exponential, with jitter, and not for ever."""
from __future__ import annotations

import dataclasses
import random


@dataclasses.dataclass(frozen=True)
class Retry:
    """Seconds. patience: waited in all since the last success; 0: no retry."""

    first: float = 0.1  # before the second try, on average
    longest: float = 5.0  # between two tries
    factor: float = 2.0
    jitter: float = 0.25  # a wait is its mean times 1 +- this
    patience: float = 10.0


class Backoff:
    """A sequence of waits. Not thread-safe."""

    def __init__(self, retry: Retry, seed: int | None = None) -> None:
        self._retry = retry
        self._random = random.Random(seed)
        self.succeeded()

    def succeeded(self) -> None:
        """The next failure starts anew."""
        self._mean = self._retry.first
        self._left = self._retry.patience

    def next(self) -> float | None:
        """What to wait before the next try; None once the patience is used up."""
        if self._left <= 0:
            return None
        spread = self._random.uniform(1 - self._retry.jitter, 1 + self._retry.jitter)
        wait = min(self._mean * spread, self._left)
        self._mean = min(self._mean * self._retry.factor, self._retry.longest)
        self._left -= wait
        return wait
