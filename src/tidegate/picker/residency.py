"""Which endpoints have a model or adapter: listed, and ready in the accelerator's memory.

Two things are told apart. *Listed*: `/v1/models` names it, so the server can serve it. An
endpoint whose list nobody has seen may serve anything. *Warm*: the adapter lies in the
accelerator's memory, so a request for it waits for no copy. Servers that say so are believed;
of the others we remember the last adapters that requests were sent for, as many as the server
says fit. Requests in flight alone say nothing: an idle adapter is as resident as a busy one.

Everything is kept per name as a vector over slots and changed in place, so a pick looks up one
vector. Names are bounded: what is listed beyond `MAX_NAMES` counts as not said.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np

from tidegate.picker.state import EndpointState, Model
from tidegate.picker.vectors import Flags

MAX_NAMES: Final = 20_000


class _Names:
    """Sets of names per slot, and for each name a vector of who has it."""

    __slots__ = ("_of", "_slots", "have")

    def __init__(self) -> None:
        self.have: dict[str, Flags] = {}
        self._of: list[frozenset[str]] = []
        self._slots = 0

    def resize(self, slots: int) -> None:
        self._of += [frozenset()] * (slots - len(self._of))
        more = slots - self._slots
        self._slots = slots
        for name, flags in self.have.items():
            self.have[name] = np.concatenate([flags, np.zeros(more, np.bool_)])

    def set(self, slot: int, names: frozenset[str]) -> None:
        before = self._of[slot]
        if names == before:
            return
        self._of[slot] = names
        for name in before - names:
            flags = self.have[name]
            flags[slot] = False
            if not flags.any():
                del self.have[name]
        for name in names - before:
            if name not in self.have:
                self.have[name] = np.zeros(self._slots, np.bool_)
            self.have[name][slot] = True

    def of(self, slot: int) -> frozenset[str]:
        return self._of[slot]


class Residency:
    """What is known of a pool's models."""

    __slots__ = ("_bases", "_listed", "_models", "_room", "_sent", "_silent", "_told", "_warm")

    def __init__(self) -> None:
        self._listed = _Names()
        self._bases: set[str] = set()
        """Names that were listed without a parent."""
        self._models: list[tuple[Model, ...]] = []
        """The list that was seen last, by slot."""
        self._warm = _Names()
        self._silent = np.zeros(0, np.bool_)
        self._room = np.zeros(0, np.bool_)
        self._sent: list[dict[str, None]] = []
        self._told: list[int] = []

    def resize(self, slots: int) -> None:
        """Have room for `slots` endpoints."""
        more = slots - len(self._silent)
        self._listed.resize(slots)
        self._warm.resize(slots)
        self._silent = np.concatenate([self._silent, np.ones(more, np.bool_)])
        self._room = np.concatenate([self._room, np.ones(more, np.bool_)])
        self._sent += [{} for _ in range(more)]
        self._models += [()] * more
        self._told += [0] * more

    def see(self, slot: int, state: EndpointState) -> None:
        """Take what an endpoint says of its models and adapters."""
        if state.models is not self._models[slot]:
            self._list(slot, state.models)
        adapters = state.adapters
        self._told[slot] = adapters.limit if adapters is not None else 0
        if state.resident is not None:
            self._warm.set(slot, state.resident)
        elif adapters is not None:
            for name in adapters.running:
                self._use(slot, name)
        self._count(slot)

    def _list(self, slot: int, models: tuple[Model, ...]) -> None:
        self._models[slot] = models
        self._silent[slot] = not models
        names = frozenset(model.id for model in models)
        if len(self._listed.have) < MAX_NAMES or names <= self._listed.have.keys():
            self._listed.set(slot, names)
            self._bases.update(model.id for model in models if model.parent is None)

    def sent(self, slot: int, model: str) -> None:
        """Note that a request for `model` goes to an endpoint that has room for adapters."""
        if self._told[slot] and model not in self._warm.of(slot) and model not in self._bases:
            self._use(slot, model)
            self._count(slot)

    def forget(self, slot: int) -> None:
        """Forget everything of a slot."""
        self._sent[slot] = {}
        self._told[slot] = 0
        self._models[slot] = ()
        self._silent[slot] = self._room[slot] = True
        self._listed.set(slot, frozenset())
        self._warm.set(slot, frozenset())

    def knows(self, model: str) -> bool:
        """Whether some endpoint lists `model`."""
        return model in self._listed.have

    def serving(self, model: str) -> Flags | None:
        """Return who may serve `model`: who lists it, and who lists nothing. None: everybody."""
        listed = self._listed.have.get(model)
        if listed is not None and _all(listed):
            return None
        flags = self._silent if listed is None else listed | self._silent
        return None if _all(flags) else flags

    def is_adapter(self, model: str) -> bool:
        """Whether `model` is listed, and as somebody's adapter."""
        return model in self._listed.have and model not in self._bases

    def listed(self, model: str) -> Flags | None:
        """Return who lists `model`; None: nobody."""
        return self._listed.have.get(model)

    def warm(self, model: str) -> Flags | None:
        """Return where the adapter is in the accelerator's memory; None: nowhere."""
        return self._warm.have.get(model)

    @property
    def room(self) -> Flags:
        """Where another adapter fits without one having to go."""
        return self._room

    def _use(self, slot: int, name: str) -> None:
        sent = self._sent[slot]
        sent.pop(name, None)
        sent[name] = None
        limit = self._told[slot] or 1
        while len(sent) > limit:
            del sent[next(iter(sent))]
        self._warm.set(slot, frozenset(sent))

    def _count(self, slot: int) -> None:
        limit = self._told[slot]
        self._room[slot] = not limit or len(self._warm.of(slot)) < limit


def _all(flags: Flags) -> bool:
    # A search for a zero byte: a tenth of what `flags.all()` takes.
    return b"\0" not in flags.tobytes()


def names_of(states: Iterable[EndpointState]) -> frozenset[str]:
    """Return all names that the endpoints list."""
    return frozenset(model.id for state in states for model in state.models)
