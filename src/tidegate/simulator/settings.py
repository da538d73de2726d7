"""What a simulated server is started with."""

from dataclasses import dataclass, field, replace

import msgspec

from tidegate.simulator.errors import SettingsError
from tidegate.simulator.faults import HEALTHY, Faults
from tidegate.simulator.profiles import Profile, by_name

DEFAULT_MODEL = "tidegate/simulated-8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Models, speed and limits of one server."""

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    """Names of the base model: the first is its name, the others are aliases."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that are loaded at the start: NAME or NAME=PATH."""
    profile: Profile = field(default_factory=lambda: by_name("demo"))
    seed: int = 0
    """Servers with the same seed give the same answers."""
    max_loras: int = 4
    """Adapters in one batch, and slots on the GPU."""
    max_cpu_loras: int | None = None
    """Adapters in the host's memory; as many as `max_loras` if nothing is said."""
    faults: Faults = HEALTHY
    """What is wrong with it from the start."""

    def __post_init__(self) -> None:
        if not self.models:
            raise SettingsError("model: found none, expected at least one name")
        if self.host_loras < self.max_loras:
            raise SettingsError(
                f"max-cpu-loras: found {self.max_cpu_loras}, expected at least "
                f"max-loras: {self.max_loras}"
            )
        profile = self.profile
        if profile.max_model_len > profile.blocks * profile.block_size:
            raise SettingsError(
                f"max-model-len: found {profile.max_model_len}, expected at most "
                f"{profile.blocks * profile.block_size}: what fits into the KV cache"
            )

    @property
    def host_loras(self) -> int:
        """Adapters that the host's memory holds."""
        return self.max_loras if self.max_cpu_loras is None else self.max_cpu_loras


def tuned(
    profile: Profile,
    *,
    time_scale: float = 1.0,
    max_num_seqs: int | None = None,
    max_model_len: int | None = None,
    blocks: int | None = None,
) -> Profile:
    """Return `profile` with its times multiplied and those limits replaced that are given."""
    return replace(
        profile.scaled(time_scale),
        max_num_seqs=max_num_seqs or profile.max_num_seqs,
        max_model_len=max_model_len or profile.max_model_len,
        blocks=blocks or profile.blocks,
    )


def parse_faults(text: str) -> Faults:
    """Return the faults that a JSON object names. Raises SettingsError."""
    try:
        return msgspec.json.decode(text, type=Faults)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"faults: {error}") from error
