"""Whether a pool picks as its annotation says: a condition of its status.

Workers read the config by themselves and keep what they have if it is wrong; here is said why.
"""

from typing import Any, Final

from tidegate.api.errors import FieldError
from tidegate.api.inference import InferencePool
from tidegate.controllers.conditions import condition
from tidegate.controllers.statuses import with_condition
from tidegate.picker.config import parse_config
from tidegate.routing.pickers import CONFIG, MissingConfig, config_text
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.statuses import StatusUpdate

CONDITION: Final = "PickerConfigured"


def with_picker(update: StatusUpdate, pool: InferencePool, snapshot: Snapshot) -> StatusUpdate:
    """Return a pool's status that says whether its picker config holds, if it names one."""
    if CONFIG not in pool.metadata.annotations:
        return update
    problem = config_problem(pool, snapshot)
    holds: Any = "False" if problem else "True"
    reason = "InvalidPickerConfig" if problem else CONDITION
    new = condition(CONDITION, holds, reason, problem or "", pool.metadata.generation)
    return with_condition(update, new)


def config_problem(pool: InferencePool, snapshot: Snapshot) -> str:
    """Return what is wrong with the config that a pool names; '' if nothing is."""
    text = config_text(pool, snapshot)
    if isinstance(text, MissingConfig):
        return str(text)
    try:
        parse_config(text)
    except FieldError as error:
        return str(error)
    return ""
