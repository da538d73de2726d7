"""LoRA adapters in a server: which are in GPU slots, which in the host's memory.

A batch holds at most `slots` different adapters, as vLLM's `max_loras`; one more waits. An
adapter that is in no slot is copied into one, from the host's memory or, if it was pushed out
of there too (`max_cpu_loras`), from its files. The copy holds up the whole batch, as it does in
vLLM. Least recently used ones go first, those in use never.

Invariant: adapters in use are in slots, and adapters in slots are in the host's memory.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class AdapterSlots:
    """The slots of one server. Times in seconds."""

    slots: int
    host: int
    """Adapters that the host's memory holds; at least as many as `slots`."""
    disk_s: float
    copy_s: float
    in_use: dict[str, int] = field(default_factory=dict)
    """Sequences in the batch by adapter, in the order in which the adapters came."""
    loads: int = 0
    """How many adapters were brought into a slot."""
    _slots: dict[str, None] = field(default_factory=dict)
    _host: dict[str, None] = field(default_factory=dict)

    def admits(self, name: str) -> bool:
        """Whether a sequence of this adapter may join the batch; '' is the base model."""
        return not name or name in self.in_use or len(self.in_use) < self.slots

    def enter(self, name: str) -> float:
        """Take a sequence into the batch; return how long its adapter takes to be there."""
        if not name:
            return 0.0
        self.in_use[name] = self.in_use.get(name, 0) + 1
        return self.load(name)

    def leave(self, name: str) -> None:
        """Let a sequence go."""
        if not name:
            return
        left = self.in_use[name] - 1
        if left:
            self.in_use[name] = left
        else:
            del self.in_use[name]

    def load(self, name: str) -> float:
        """Bring an adapter into a slot, if one can be freed; return how long that takes."""
        seconds = 0.0 if name in self._host else self.disk_s
        _touch(self._host, name)
        if name not in self._slots:
            if len(self._slots) >= self.slots and not self._evict():
                return seconds  # all slots are in use: it waits in the host's memory
            seconds += self.copy_s
            self.loads += 1
        _touch(self._slots, name)
        self._trim_host()
        return seconds

    def forget(self, name: str) -> None:
        """Drop an adapter; sequences that use it finish."""
        self._host.pop(name, None)
        if name not in self.in_use:
            self._slots.pop(name, None)

    @property
    def resident(self) -> tuple[str, ...]:
        """The adapters in slots, the least recently used first."""
        return tuple(self._slots)

    def _evict(self) -> bool:
        oldest = next((name for name in self._slots if name not in self.in_use), None)
        if oldest is None:
            return False
        del self._slots[oldest]
        return True

    def _trim_host(self) -> None:
        while len(self._host) > self.host:
            del self._host[next(name for name in self._host if name not in self._slots)]


def _touch(order: dict[str, None], name: str) -> None:
    order.pop(name, None)
    order[name] = None
