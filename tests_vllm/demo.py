"""All scenarios, told as they happen: `python -m tests_vllm.demo [PAGE]`."""

import sys
import tempfile
from pathlib import Path

from tests_vllm import failures, scenarios
from tests_vllm.place import Place
from tests_vllm.story import Story
from tidegate.testing.deployment import deployed

ALL = (
    scenarios.node_update,
    scenarios.base_model_update,
    scenarios.adapter_update,
    failures.killed,
    failures.stopped,
    failures.never_ready,
)


def main() -> None:
    """Run them; write the page that is named, if one is."""
    story = Story(aloud=True)
    names = set(sys.argv[2:])
    with (
        tempfile.TemporaryDirectory(prefix="tidegate-vllm-") as folder,
        deployed(Path(folder), [], "--workers", "1", "--access-log") as up,
    ):
        place = Place(up, story)
        for scenario in ALL:
            if not names or scenario.__name__ in names:
                scenario(place)
    if len(sys.argv) > 1:
        story.write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
