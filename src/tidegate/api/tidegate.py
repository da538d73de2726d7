"""Our own kinds (`tidegate.dev/v1alpha1`): ModelServer."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from tidegate.api.meta import Model, Resource
from tidegate.api.scalars import Conditions

GROUP = "tidegate.dev"


class EnvVar(Model, frozen=True, kw_only=True):
    """One environment variable."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            extra={"expected": "a name of letters, digits and '_', not starting with a digit"},
        ),
    ]
    value: str = ""


class HealthCheck(Model, frozen=True, kw_only=True):
    """How a model server is asked whether it is well."""

    path: Annotated[
        str,
        Meta(
            max_length=1024,
            pattern=r"^/[!-~]*$",
            extra={"expected": 'an absolute path such as "/health"'},
        ),
    ] = "/health"
    """Answers 200 when the server can take requests."""
    period_seconds: Annotated[float, Meta(gt=0)] = 2.0
    """Seconds from one question to the next."""
    timeout_seconds: Annotated[float, Meta(gt=0)] = 2.0
    """Seconds to wait for an answer."""
    failure_threshold: Annotated[int, Meta(ge=1)] = 3
    """Failures in a row after which a process that was ready is restarted."""
    startup_seconds: Annotated[float, Meta(gt=0)] = 600.0
    """How long a new process may take to become ready: large models load for minutes."""


class Simulator(Model, frozen=True, kw_only=True):
    """A simulated model server in place of a command (`tidegate simulate`)."""

    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1, max_length=64)
    ] = ("tidegate/simulated-8b",)
    """The base models that it serves; the first is the default one."""
    adapters: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(max_length=1024)] = ()
    """LoRA adapters that it serves."""
    profile: str = "demo"
    """A latency profile; `tidegate simulate --help` lists them."""
    seed: int = 0
    """Answers and their times are the same for the same seed."""
    max_num_seqs: Annotated[int, Meta(ge=1)] | None = None
    """How many requests run at once; by default the profile's."""
    max_model_len: Annotated[int, Meta(ge=2)] | None = None
    """Tokens of prompt and answer; by default the profile's."""
    num_gpu_blocks: Annotated[int, Meta(ge=1)] | None = None
    """KV-cache blocks of 16 tokens; by default the profile's."""
    max_loras: Annotated[int, Meta(ge=1)] | None = None
    """Adapters in one batch, and slots on the GPU; by default 4."""
    max_cpu_loras: Annotated[int, Meta(ge=1)] | None = None
    """Adapters in the host's memory; by default `maxLoras`."""
    time_scale: Annotated[float, Meta(gt=0)] = 1.0
    """Latencies are multiplied by this."""
    faults: dict[str, Any] = {}
    """What is wrong with it from the start, as at `/admin/faults`: `{error_rate: 0.3}`."""


class ModelServerSpec(Model, frozen=True, kw_only=True):
    """Exactly one of `addresses`, `command` and `simulator`."""

    addresses: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    max_length=300,
                    pattern=(
                        r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)"
                        r":[0-9]{1,5}$"
                    ),
                    extra={"expected": '`host:port` such as "10.0.0.7:8000" or "[::1]:8000"'},
                ),
            ],
            ...,
        ],
        Meta(max_length=1000, extra={"list_keys": ()}),
    ] = ()
    """`host:port` of servers that somebody else runs."""
    command: Annotated[
        tuple[str, ...],
        Meta(extra={"expected": "a list of texts such as [vllm, serve, MODEL, '--port={port}']"}),
    ] = ()
    """A program and its arguments; `{port}` becomes a free port, `{host}` its address."""
    simulator: Simulator | None = None
    """A simulated server, to try things without a GPU."""
    replicas: Annotated[int, Meta(ge=0, le=1000)] = 1
    """How many processes of `command` or `simulator` to run."""
    env: Annotated[tuple[EnvVar, ...], Meta(extra={"list_keys": ("name",)})] = ()
    """Environment variables of `command`, added to Tidegate's own."""
    working_dir: str | None = None
    """Where `command` runs, by default where Tidegate does."""
    engine: Literal["vllm", "sglang", "trtllm", "triton"] = "vllm"
    """Whose metric names the server speaks."""
    health: HealthCheck = HealthCheck()
    termination_grace_period_seconds: Annotated[float, Meta(ge=0)] = 30.0
    """How long a stopped process may finish its requests before it is killed."""


class EndpointStatus(Model, frozen=True, kw_only=True):
    """One address that the model server has."""

    address: str
    """`host:port`."""
    state: Literal["Starting", "Ready", "Unhealthy", "Stopping"] = "Starting"
    replica: int = 0
    """Which of the replicas, from 0."""
    pid: int | None = None
    """The process, where Tidegate runs it."""
    restarts: int = 0
    message: str = ""
    """Why it is in this state, for people."""


class ModelServerStatus(Model, frozen=True, kw_only=True):
    """The addresses, and how many of them are ready."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    endpoints: tuple[EndpointStatus, ...] = ()
    conditions: Conditions = ()


class ModelServer(Resource, frozen=True, kw_only=True):
    """Where endpoints come from: addresses, supervised processes, or the simulator.

    An InferencePool selects model servers by their labels.
    """

    spec: ModelServerSpec = ModelServerSpec()
    status: ModelServerStatus = ModelServerStatus()
