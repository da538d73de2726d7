"""Latency profiles: how fast a simulated GPU prefills and decodes, and how much it holds.

One step of continuous batching costs a fixed time, the linear layers of all its tokens, and
attention. The linear layers follow the roofline: the weights are read once, whatever the batch
(memory bound), or the tokens are computed (compute bound), whichever takes longer. Attention
reads the KV cache of every decoding sequence, and computes pairs of tokens of every prompt.

`hardware` makes profiles of real GPUs and models from their data sheets.
"""

from dataclasses import dataclass, replace
from typing import Final

from tidegate.simulator.errors import SettingsError
from tidegate.simulator.hardware import A100, H100, H200, L4, LLAMA_8B, LLAMA_70B, Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A GPU with a model on it. Times in seconds."""

    step_s: float
    """What a step costs at least: scheduling, launches, communication."""
    weights_s: float = 0.0
    """What reading the weights takes: the least that the linear layers of a step cost."""
    token_s: float
    """What computing the linear layers of one token takes, of a prompt or an answer."""
    sequence_s: float
    """What each decoding sequence adds to a step: sampling, detokenising."""
    context_token_s: float = 0.0
    """What each token in the KV cache of a decoding sequence adds to a step."""
    pair_s: float = 0.0
    """What each pair of a prompt's token and a token before it adds to a step."""
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
    adapter_disk_s: float = 0.0
    """What reading an adapter from its files takes."""
    adapter_copy_s: float = 0.0
    """What bringing an adapter from the host's memory into a slot of the GPU takes."""

    def decode_s(self, sequences: int, context: int) -> float:
        """Return how long a step takes that only decodes.

        Args:
            sequences: How many decode.
            context: Tokens that they have in the KV cache, all together.

        """
        linear = max(self.weights_s, self.token_s * sequences)
        rest = self.sequence_s * sequences + self.context_token_s * context
        return self.step_s + linear + rest

    def step_time(self, prefill: int, pairs: int, sequences: int, context: int) -> float:
        """Return how long a step takes that also prefills `prefill` tokens.

        Args:
            prefill: Prompt tokens of this step.
            pairs: For each of them the tokens before it, added up.
            sequences: As in `decode_s`.
            context: As in `decode_s`.

        """
        linear = max(self.weights_s, self.token_s * (prefill + sequences))
        rest = self.sequence_s * sequences + self.context_token_s * context
        return self.step_s + linear + rest + self.pair_s * pairs

    @property
    def instant(self) -> bool:
        """Whether steps take no time at all."""
        return not (self.step_s or self.weights_s or self.token_s or self.sequence_s)

    def scaled(self, factor: float) -> "Profile":
        """Return this profile with all times multiplied by `factor`."""
        return replace(self, **{name: getattr(self, name) * factor for name in _TIMES})


_TIMES: Final = (
    "step_s", "weights_s", "token_s", "sequence_s", "context_token_s", "pair_s",
    "adapter_disk_s", "adapter_copy_s",
)  # fmt: skip


def of(deployment: Deployment) -> Profile:
    """Return the profile of a model on GPUs: see `hardware` for the arithmetic."""
    return Profile(
        step_s=deployment.step_s,
        weights_s=deployment.weights_s,
        token_s=deployment.token_s,
        sequence_s=deployment.sequence_s,
        context_token_s=deployment.context_token_s,
        pair_s=deployment.pair_s,
        max_num_seqs=deployment.gpu.max_num_seqs,
        max_num_batched_tokens=deployment.gpu.max_num_batched_tokens,
        max_model_len=deployment.max_model_len,
        blocks=deployment.blocks,
        block_size=deployment.block_size,
        shortest_answer=32,
        longest_answer=512,
        adapter_disk_s=deployment.adapter_disk_s,
        adapter_copy_s=deployment.adapter_copy_s,
    )


DEPLOYMENTS: Final = {
    "l4-8b": Deployment(L4, LLAMA_8B, weight_bytes=1),
    "a100-8b": Deployment(A100, LLAMA_8B),
    "h100-8b": Deployment(H100, LLAMA_8B),
    "h200-8b": Deployment(H200, LLAMA_8B),
    "a100x4-70b": Deployment(A100, LLAMA_70B, gpus=4),
    "h100x2-70b": Deployment(H100, LLAMA_70B, gpus=2, weight_bytes=1),
    "h200x4-70b": Deployment(H200, LLAMA_70B, gpus=4),
}
"""GPUs and models that have a profile; with 1 byte a weight the model is in FP8."""

PROFILES: Final = {
    # About what an 8B model in 8 bits does on a 24 GB card: 14 ms a token, 16,000 prompt tokens/s.
    "demo": Profile(
        step_s=0.014,
        sequence_s=0.0001 - 1 / 16_000,
        token_s=1 / 16_000,
        adapter_disk_s=0.1,
        adapter_copy_s=0.01,
    ),
    # No latency of its own: what a test or a benchmark of something else wants.
    "instant": Profile(
        step_s=0.0,
        sequence_s=0.0,
        token_s=0.0,
        max_num_seqs=1024,
        max_num_batched_tokens=1 << 20,
        max_model_len=32768,
        blocks=65536,
    ),
    **{name: of(deployment) for name, deployment in DEPLOYMENTS.items()},
}


def by_name(name: str) -> Profile:
    """Return a profile. Raises SettingsError."""
    if name not in PROFILES:
        raise SettingsError(f"profile: found {name!r}, expected one of {', '.join(PROFILES)}")
    return PROFILES[name]
