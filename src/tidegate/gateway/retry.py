"""How many retries a worker may make: a budget, so that retries never become the outage.

Each request earns a fifth of a retry, and a small reserve refills with time so that a quiet
gateway may retry too. The shape is Finagle's retry budget
(twitter.github.io/finagle/guide/Glossary.html, "RetryBudget").
"""


class RetryBudget:
    """A token bucket filled by requests and, slowly, by time."""

    __slots__ = ("_at", "_cap", "_per_request", "_per_second", "_tokens")

    def __init__(
        self, *, per_request: float = 0.2, per_second: float = 2.0, cap: float = 100.0
    ) -> None:
        self._per_request = per_request
        self._per_second = per_second
        self._cap = cap
        self._tokens = min(10.0, cap)
        self._at: float | None = None

    def earn(self) -> None:
        """Note one request."""
        self._tokens = min(self._cap, self._tokens + self._per_request)

    def spend(self, now: float) -> bool:
        """Take one retry at `now` (seconds, any clock); False when there is none left."""
        if self._at is not None:
            self._tokens = min(self._cap, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
