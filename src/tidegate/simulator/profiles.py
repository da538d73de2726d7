"""Latency profiles: how fast a simulated GPU prefills and decodes, and how much it holds.

One step of continuous batching costs a fixed time (the weights are read once, whatever the
batch), a little for each decoding sequence (its KV cache is read), and the prefill tokens
divided by a rate (compute bound).
"""

from dataclasses import dataclass, replace
from typing import Final

from tidegate.simulator.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A GPU with a model on it. Times in seconds."""

    step_s: float
    """What a step costs at least."""
    sequence_s: float
    """What each decoding sequence adds to a step."""
    prefill_token_s: float
    """What each prompt token that is not in the prefix cache adds to a step."""
    max_num_seqs: int = 64
    """Sequences that run at once; more wait."""
    max_num_batched_tokens: int = 2048
    """Tokens of one step; longer prompts are prefilled in chunks."""
    max_model_len: int = 8192
    """Prompt and answer of one request, in tokens."""
    blocks: int = 4096
    """KV-cache blocks of `block_size` tokens."""
    block_size: int = 16
    shortest_answer: int = 16
    """Tokens of an answer whose length the request leaves open: at least this many..."""
    longest_answer: int = 160
    """...and at most this many."""

    def step_time(self, prefill_tokens: int, decoding: int) -> float:
        """Return how long a step takes that prefills and decodes so much, in seconds."""
        return self.step_s + self.prefill_time(prefill_tokens) + self.decode_time(decoding)

    def prefill_time(self, tokens: int) -> float:
        """Return what prefilling `tokens` adds to a step, in seconds."""
        return self.prefill_token_s * tokens

    def decode_time(self, sequences: int) -> float:
        """Return what decoding `sequences` adds to a step, in seconds."""
        return self.sequence_s * sequences

    @property
    def instant(self) -> bool:
        """Whether steps take no time at all."""
        return not (self.step_s or self.sequence_s or self.prefill_token_s)

    def scaled(self, factor: float) -> "Profile":
        """Return this profile with all times multiplied by `factor`."""
        return replace(
            self,
            step_s=self.step_s * factor,
            sequence_s=self.sequence_s * factor,
            prefill_token_s=self.prefill_token_s * factor,
        )


PROFILES: Final = {
    # About what an 8B model in 8 bits does on a 24 GB card: 14 ms a token, 16,000 prompt tokens/s.
    "demo": Profile(step_s=0.014, sequence_s=0.0001, prefill_token_s=1 / 16_000),
    # No latency of its own: what a test or a benchmark of something else wants.
    "instant": Profile(
        step_s=0.0,
        sequence_s=0.0,
        prefill_token_s=0.0,
        max_num_seqs=1024,
        max_num_batched_tokens=1 << 20,
        max_model_len=32768,
        blocks=65536,
    ),
}


def by_name(name: str) -> Profile:
    """Return a profile. Raises SettingsError."""
    if name not in PROFILES:
        raise SettingsError(f"profile: found {name!r}, expected one of {', '.join(PROFILES)}")
    return PROFILES[name]
