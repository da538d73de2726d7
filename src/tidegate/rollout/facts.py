"""What preflight knows of both sides. Everything may be unknown (None): then it isn't judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.rollout.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """One ready endpoint, as it was asked."""

    address: str
    models: tuple[str, ...] | None = None
    """Names that it serves (`/v1/models`), its base model first, adapters left out."""
    adapters: frozenset[str] = frozenset()
    max_model_len: int | None = None
    """Tokens of prompt and answer together."""
    tokenizer: str | None = None
    """A hash of what it makes of probe texts; equal hashes are equal tokenizers."""
    chat_template: str | None = None
    """The same of probe conversations."""
    features: Mapping[str, bool] = field(default_factory=dict)
    """Probed features (`tools`, `json_schema`, `logprobs`, `n`, `seed`…): do they work?"""
    max_lora_rank: int | None = None
    problem: str = ""
    """Why it could not be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """One side's pool."""

    name: str
    exists: bool = True
    accepted: bool | None = None
    """None while no Gateway has said anything."""
    endpoints: tuple[EndpointFacts, ...] = ()
    """Those that are ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """An adapter's `adapter_config.json`, as far as it can be read."""

    base_model: str | None = None
    rank: int | None = None
    target_modules: frozenset[str] = frozenset()
    modules_to_save: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficFacts:
    """What real requests have asked for lately."""

    models: frozenset[str] | None = None
    """Model names; None if there were no requests to tell."""
    longest: int | None = None
    """The most tokens that a request needed, prompt and `max_tokens` together."""
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that preflight looks at."""

    plan: Plan
    stable: PoolFacts
    canary: PoolFacts
    """Of an Adapter rollout, the same pool."""
    stable_weight: int | None = None
    """The stable's weight in the target; None if that can't be read."""
    coarse: bool = False
    """Other backends share the rule, and the weights are too small to say single percents."""
    adapter: AdapterFacts | None = None
    """The canary's adapter, of an Adapter rollout."""
    base_models: frozenset[str] = frozenset()
    """Names under which the base model of an Adapter rollout's pool is known."""
    supported_modules: frozenset[str] | None = None
    """Modules that the servers can adapt; None if that isn't known."""
    traffic: TrafficFacts = TrafficFacts()
    first_weight: int = 0
    """The first share in percent that the canary is to get."""
    cap: int | None = None
    """What it can carry; see `capacity`."""
    cap_message: str = ""
