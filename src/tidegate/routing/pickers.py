"""What a pool says of its picking, by annotations: where its config is, where adapters are.

    tidegate.dev/picker-config: NAME        a ConfigMap of the pool's namespace, or NAME/KEY
    tidegate.dev/adapter-path: /adapters/{adapter}

The config is passed on as text: what it means is the picker's to say.
"""

from typing import Final

from tidegate.api.core import ConfigMap
from tidegate.api.inference import InferencePool
from tidegate.api.meta import Key
from tidegate.routing.snapshot import Snapshot

CONFIG: Final = "tidegate.dev/picker-config"
"""Names the ConfigMap with the pool's `EndpointPickerConfig`: the one that an endpoint picker
would mount."""
ADAPTERS: Final = "tidegate.dev/adapter-path"
"""Where model servers find an adapter, `{adapter}` for its name. Where it is set, an adapter that
no endpoint has is loaded on one when somebody asks for it."""
USUAL_KEY: Final = "default-plugins.yaml"
"""The key that GIE's charts use."""


class MissingConfig(str):
    """Why there is no config where an annotation says that there is one."""

    __slots__ = ()


def config_text(pool: InferencePool, snapshot: Snapshot) -> str | MissingConfig:
    """Return the pool's config as YAML; '' if it names none."""
    named = pool.metadata.annotations.get(CONFIG, "")
    if not named:
        return ""
    name, _, key = named.partition("/")
    found = snapshot.get(ConfigMap, Key(pool.metadata.namespace, name))
    if found is None:
        return MissingConfig(f"annotation {CONFIG}: there is no ConfigMap {name}")
    if not key:
        key = next(iter(found.data)) if len(found.data) == 1 else USUAL_KEY
    if key not in found.data:
        keys = ", ".join(sorted(found.data)) or "none"
        return MissingConfig(
            f"annotation {CONFIG}: ConfigMap {name} has no key {key}; it has {keys}"
        )
    return found.data[key]
