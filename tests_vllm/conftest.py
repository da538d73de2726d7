"""One deployment for all tests: each takes over the servers of the one before."""

import os
from pathlib import Path

import pytest

from tests_vllm.place import HOME, Place
from tests_vllm.story import Story
from tidegate.testing.deployment import deployed


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A gateway without servers."""
    if not (HOME / "bin" / "python").exists():
        pytest.skip(f"vLLM is not in {HOME}: make test-vllm")
    with deployed(tmp_path_factory.mktemp("vllm"), [], "--workers", "1", "--access-log") as up:
        story = Story(aloud=False)
        yield Place(up, story)
    if page := os.environ.get("TIDEGATE_VLLM_PAGE"):
        story.write(Path(page))
