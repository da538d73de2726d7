"""Who computes the prompt: the endpoint that answers, or another one (prefill/decode roles)."""

from typing import Annotated, Final

from msgspec import Meta

from tidegate.picker.plugin import Plugin
from tidegate.picker.request import Request

REVISION: Final = "disaggregatedset.x-k8s.io/revision"
"""The label that tells a DisaggregatedSet's revisions apart."""


class PrefixBasedDecider(Plugin, frozen=True):
    """Has another endpoint compute the prompt if enough of it is missing where it is answered."""

    prompt_tokens: Annotated[int, Meta(ge=0)] = 0
    """Tokens that a prompt must have at least."""
    non_cached_tokens: Annotated[int, Meta(ge=0)] = 0
    """Tokens of it that must be missing at least; 0: never apart."""

    def apart(self, request: Request, matched: float) -> bool:
        """Whether enough is missing."""
        missing = request.prompt - matched
        wanted = self.non_cached_tokens
        return 0 < wanted <= missing and request.prompt >= self.prompt_tokens


class AlwaysDecider(Plugin, frozen=True):
    """Always has another endpoint compute the prompt."""

    def apart(self, request: Request, matched: float) -> bool:
        """Return True."""
        return True


class Deciders(Plugin, frozen=True):
    """Plugins that decide."""

    prefill: str | None = None
    """Name of the plugin that says whether another endpoint computes the prompt."""
    encode: str | None = None
    """Accepted; encoders are not picked."""


class DisaggProfileHandler(Plugin, frozen=True):
    """Picks a pair: the endpoint that answers by one profile, who computes the prompt by another.

    Both have the same revision. Where there is no partner of that revision, the endpoint that
    answers computes the prompt itself.
    """

    deciders: Deciders = Deciders()
    """Plugins that decide whether there is a pair at all; without one there never is."""
    decider_plugin_name: str | None = None
    """Older spelling of `deciders.prefill`."""
    primary_port: int = 0
    """Accepted and not needed."""
    decode_profile: str = "decode"
    """Profile that picks who answers."""
    prefill_profile: str = "prefill"
    """Profile that picks who computes the prompt."""
    encode_profile: str = "encode"
    """Accepted; encoders are not picked."""
    revision_label: str = REVISION
    """Label whose value both must share."""

    @property
    def decider(self) -> str | None:
        """Name of the plugin that decides."""
        return self.deciders.prefill or self.decider_plugin_name
