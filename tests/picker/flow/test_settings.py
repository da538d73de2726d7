"""What a `flowControl` may say."""

from pathlib import Path

import msgspec
import pytest

from tidegate.api.errors import FieldError
from tidegate.picker.flow.settings import BandSettings, FlowSettings, Saturation, parse_flow


def test_nothing_said_means_the_defaults():
    assert parse_flow(None) == FlowSettings()
    assert parse_flow({}).ttl_s == 60.0


def test_bands_take_what_they_do_not_say_from_the_defaults():
    flow = parse_flow(
        {
            "defaultRequestTTL": "5s",
            "defaultPriorityBand": {"maxRequests": 7},
            "priorityBands": [{"priority": 10, "usageLimit": 0.5}],
            "saturationDetector": {"queueDepthThreshold": 3},
        }
    )
    assert flow.ttl_s == 5.0
    assert flow.band(10).limit == 0.5
    assert (flow.band(3).max_requests, flow.band(3).limit) == (7, 1.0)
    assert flow.band(-1).limit < flow.band(0).limit < flow.band(1).limit


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"maxRequest": 1}, "flowControl"),
        ({"defaultRequestTTL": "soon"}, "flowControl.defaultRequestTTL"),
        ({"priorityBands": [{"usageLimit": 2}]}, "flowControl.priorityBands[0].usageLimit"),
        ({"priorityBands": [{"priority": 1}, {"priority": 1}]},
         "flowControl.priorityBands[1].priority"),
        ({"saturationDetector": {"metricsStalenessThreshold": "1"}},
         "flowControl.saturationDetector.metricsStalenessThreshold"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_place(value: dict[str, object], where: str):
    with pytest.raises(FieldError) as caught:
        parse_flow(value)
    assert caught.value.path == where


@pytest.mark.parametrize("kind", [FlowSettings, BandSettings, Saturation])
def test_every_field_is_documented(kind: type[msgspec.Struct]):
    text = (Path(__file__).parents[3] / "docs" / "priorities.md").read_text()
    for field in msgspec.structs.fields(kind):
        assert field.encode_name in text, field.encode_name
