from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.testing.up import Up


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A `tidegate up` that isn't started yet; nothing of it is left after the test."""
    made = Up(tmp_path)
    yield made
    made.clear()
