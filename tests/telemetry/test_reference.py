"""The generated page names everything that is served."""

from tidegate.telemetry.families import FAMILIES
from tidegate.telemetry.reference import metrics_page


def test_the_page_has_every_metric_with_type_labels_and_help():
    sections = metrics_page().split("\n## ")[1:]
    assert len(sections) == len(FAMILIES)
    for section, family in zip(sections, FAMILIES, strict=True):
        assert section.startswith(f"`{family.name}`\n\n{family.help}\n")
        assert f"- Type: {family.type}\n" in section
        assert all(f"`{label}`" in section for label in family.labels)
