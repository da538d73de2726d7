"""What a simulated server is started with."""

from dataclasses import dataclass, field, replace

from tidegate.simulator.errors import SettingsError
from tidegate.simulator.profiles import Profile, by_name

DEFAULT_MODEL = "tidegate/simulated-8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Models, speed and limits of one server."""

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    """Names of the base model: the first is its name, the others are aliases."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that are loaded at the start."""
    profile: Profile = field(default_factory=lambda: by_name("demo"))
    seed: int = 0
    """Servers with the same seed give the same answers."""
    max_loras: int = 4
    """Shown in the metrics only: adapter slots aren't simulated yet."""

    def __post_init__(self) -> None:
        if not self.models:
            raise SettingsError("model: found none, expected at least one name")
        profile = self.profile
        if profile.max_model_len > profile.blocks * profile.block_size:
            raise SettingsError(
                f"max-model-len: found {profile.max_model_len}, expected at most "
                f"{profile.blocks * profile.block_size}: what fits into the KV cache"
            )


def tuned(
    profile: Profile,
    *,
    time_scale: float = 1.0,
    max_num_seqs: int | None = None,
    max_model_len: int | None = None,
) -> Profile:
    """Return `profile` with its times multiplied and those limits replaced that are given."""
    return replace(
        profile.scaled(time_scale),
        max_num_seqs=max_num_seqs or profile.max_num_seqs,
        max_model_len=max_model_len or profile.max_model_len,
    )
