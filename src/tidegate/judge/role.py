"""What a metric is for."""

from typing import Literal

Role = Literal["required", "informative"]
"""Required metrics decide. Informative ones are shown, and never fail or delay a rollout."""
