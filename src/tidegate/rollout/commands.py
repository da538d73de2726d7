"""What may be due. Each is safe to run twice."""

from dataclasses import dataclass

from tidegate.api.rollout import HistoryEntry


@dataclass(frozen=True, slots=True)
class SetWeights:
    """Give both sides these weights in the target; see `strategies`."""

    stable: int
    canary: int


@dataclass(frozen=True, slots=True)
class HoldRollout:
    """Put our finalizer on the rollout: deleting it must give the traffic back first."""


@dataclass(frozen=True, slots=True)
class ReleaseRollout:
    """Take it off."""


@dataclass(frozen=True, slots=True)
class HoldPool:
    """Put our finalizer on a pool that the rollout uses."""

    pool: str


@dataclass(frozen=True, slots=True)
class ReleasePool:
    """Take it off."""

    pool: str


@dataclass(frozen=True, slots=True)
class LoadAdapter:
    """Load an adapter (`/v1/load_lora_adapter`) at one endpoint."""

    endpoint: str
    adapter: str
    path: str


@dataclass(frozen=True, slots=True)
class UnloadAdapter:
    """Unload an adapter at one endpoint."""

    endpoint: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Rebind:
    """Bind an InferenceObjective or InferenceModelRewrite to a pool (`spec.poolRef.name`)."""

    kind: str
    name: str
    pool: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Scale the ModelServers of a pool."""

    pool: str
    replicas: int


@dataclass(frozen=True, slots=True)
class AskGate:
    """Ask the hooks of a gate; the answer comes back as GateAnswered."""

    gate: str
    """`BeforeIncrease/2`: the part before the slash is the gate in the spec."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell of a change: Event, notices, `After` hooks. At least once; Announced stops it."""

    name: str
    """Made of the rollout's uid and the change's number, so a repeat overwrites itself."""
    entry: HistoryEntry


Command = (
    SetWeights
    | HoldRollout
    | ReleaseRollout
    | HoldPool
    | ReleasePool
    | LoadAdapter
    | UnloadAdapter
    | Rebind
    | Scale
    | AskGate
    | Announce
)
