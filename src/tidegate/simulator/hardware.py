"""GPUs and models, and the roofline arithmetic that makes a latency profile of the two.

Data sheets (NVIDIA): memory, bandwidth, dense tensor throughput (without sparsity).
Models: Llama 3.1's `config.json`. Everything else is one of the efficiencies below, fitted by
hand to published measurements that docs/results/simulator.md shows beside the simulator's:

- decode bandwidth: vLLM 0.23 on an A100-40GB and 0.21 on an H100 (8B in BF16, one stream);
- prefill compute and tensor-parallel cost: NVIDIA's NIM tables for 70B in FP8 on two H100s;
- L4: no measurement was found; arithmetic only, with the compute of a 72 W card halved.

Limits (sequences and tokens a step) are vLLM's defaults for an API server:
`EngineArgs.get_batch_defaults` in vllm/engine/arg_utils.py.
"""

from dataclasses import dataclass
from typing import Final

GIB: Final = 1 << 30

BANDWIDTH_SHARE: Final = 0.85
"""Of the memory's peak bandwidth that decoding reaches."""
MEMORY_SHARE: Final = 0.9
"""Of the memory that vLLM takes (`gpu_memory_utilization`)."""
ACTIVATION_BYTES: Final = 2 * GIB
"""What a GPU needs beside weights and KV cache: activations, graphs, buffers."""
OVERHEAD_S: Final = 0.0008
"""Of a step on the host: scheduling, launching, sampling."""
LAYER_S: Final = 70e-6
"""A layer's two all-reduces and smaller kernels where the model is spread over GPUs."""
SEQUENCE_S: Final = 12e-6
"""A sequence's sampling, detokenising and streaming."""
DISK_BYTES_PER_S: Final = 1e9
"""Reading and unpacking an adapter's files. Derived: a local NVMe drive, safetensors."""
BUS_BYTES_PER_S: Final = 12e9
"""From the host's memory to the GPU: half of what PCIe 4.0 x16 has."""
ADAPTER_RANK: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One card, by its data sheet."""

    name: str
    memory: int
    """Bytes."""
    bandwidth: float
    """Bytes a second."""
    flops: float
    """Dense 16-bit operations a second; 8-bit ones are twice as many."""
    compute_share: float = 0.5
    """Of `flops` that prefill reaches in 16 bits."""
    compute_share_fp8: float = 0.46
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048


L4: Final = Gpu(
    name="L4",
    memory=24 * GIB,
    bandwidth=300e9,
    flops=121e12,
    compute_share=0.3,
    compute_share_fp8=0.25,
)
A100: Final = Gpu(name="A100-SXM-80GB", memory=80 * GIB, bandwidth=2039e9, flops=312e12)
A100_40: Final = Gpu(name="A100-SXM-40GB", memory=40 * GIB, bandwidth=1555e9, flops=312e12)
H100: Final = Gpu(
    name="H100-SXM-80GB",
    memory=80 * GIB,
    bandwidth=3350e9,
    flops=989e12,
    max_num_seqs=1024,
    max_num_batched_tokens=8192,
)
H200: Final = Gpu(
    name="H200-SXM-141GB",
    memory=141 * 10**9,
    bandwidth=4800e9,
    flops=989e12,
    max_num_seqs=1024,
    max_num_batched_tokens=8192,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A dense transformer."""

    name: str
    parameters: float
    layers: int
    hidden: int
    intermediate: int
    kv_heads: int
    head_size: int = 128

    @property
    def kv_values(self) -> int:
        """What one token has in the KV cache: keys and values of all layers."""
        return 2 * self.layers * self.kv_heads * self.head_size

    @property
    def adapter_bytes(self) -> int:
        """The size of an adapter of `ADAPTER_RANK` on all linear layers, in 16 bits."""
        kv = self.kv_heads * self.head_size
        widths = 2 * (self.hidden + self.hidden) + 2 * (self.hidden + kv)
        widths += 3 * (self.hidden + self.intermediate)
        return ADAPTER_RANK * widths * self.layers * 2


LLAMA_8B: Final = Model(
    name="Llama-3.1-8B",
    parameters=8.03e9,
    layers=32,
    hidden=4096,
    intermediate=14336,
    kv_heads=8,
)
LLAMA_70B: Final = Model(
    name="Llama-3.1-70B",
    parameters=70.55e9,
    layers=80,
    hidden=8192,
    intermediate=28672,
    kv_heads=8,
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on one or more GPUs (tensor parallel). Times in seconds."""

    gpu: Gpu
    model: Model
    gpus: int = 1
    weight_bytes: int = 2
    """2 is BF16, 1 is FP8."""
    kv_bytes: int = 2
    """Of a value in the KV cache: vLLM keeps 16 bits unless it is told otherwise."""
    block_size: int = 16
    max_model_len: int = 16_384

    @property
    def step_s(self) -> float:
        """What a step costs whatever is in it."""
        return OVERHEAD_S + (LAYER_S * self.model.layers if self.gpus > 1 else 0.0)

    @property
    def weights_s(self) -> float:
        """What reading all weights once takes."""
        return self.model.parameters * self.weight_bytes / self._bandwidth

    @property
    def token_s(self) -> float:
        """What the linear layers of a token take: two operations a parameter."""
        return 2 * self.model.parameters / self._flops

    @property
    def sequence_s(self) -> float:
        """What a decoding sequence adds on the host."""
        return SEQUENCE_S

    @property
    def context_token_s(self) -> float:
        """What reading a token of the KV cache takes."""
        return self._token_bytes / self._bandwidth

    @property
    def pair_s(self) -> float:
        """What a pair of tokens costs in attention: four operations a hidden unit and layer."""
        share = self.gpu.compute_share  # attention is computed in 16 bits
        operations = 4 * self.model.hidden * self.model.layers
        return operations / (self.gpus * self.gpu.flops * share)

    @property
    def blocks(self) -> int:
        """How many KV-cache blocks fit beside the weights."""
        room = self.gpus * (self.gpu.memory * MEMORY_SHARE - ACTIVATION_BYTES)
        room -= self.model.parameters * self.weight_bytes
        return int(room // (self._token_bytes * self.block_size))

    @property
    def adapter_disk_s(self) -> float:
        """What reading an adapter's files takes."""
        return self.model.adapter_bytes / DISK_BYTES_PER_S

    @property
    def adapter_copy_s(self) -> float:
        """What copying an adapter to the GPU takes."""
        return self.model.adapter_bytes / BUS_BYTES_PER_S

    @property
    def _token_bytes(self) -> int:
        return self.model.kv_values * self.kv_bytes

    @property
    def _bandwidth(self) -> float:
        return self.gpus * self.gpu.bandwidth * BANDWIDTH_SHARE

    @property
    def _flops(self) -> float:
        if self.weight_bytes == 1:
            return self.gpus * 2 * self.gpu.flops * self.gpu.compute_share_fp8
        return self.gpus * self.gpu.flops * self.gpu.compute_share
