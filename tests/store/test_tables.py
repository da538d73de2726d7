"""What `kubectl get` prints, cell by cell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.scheme import SCHEME, by_kind
from tidegate.store.tables import age, human_duration, render_table

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-2, "<invalid>"),
        (-1.5, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (9 * MINUTE + 59, "9m59s"),
        (10 * MINUTE + 59, "10m"),
        (179 * MINUTE, "179m"),
        (3 * HOUR, "3h"),
        (7 * HOUR + 59 * MINUTE, "7h59m"),
        (8 * HOUR + 59 * MINUTE, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (7 * DAY + 23 * HOUR, "7d23h"),
        (8 * DAY + 23 * HOUR, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (731 * DAY, "2y1d"),
        (8 * 365 * DAY + DAY, "8y"),
    ],
)
def test_durations_are_worded_as_kubectl_words_them(seconds, words):
    assert human_duration(seconds) == words


@given(st.floats(0, 1e10))
def test_a_duration_is_short(seconds):
    assert len(human_duration(seconds)) <= 7


def test_an_age_counts_from_an_rfc_3339_time():
    assert age("1970-01-01T00:01:00Z", 90.0) == "30s"
    assert age("1970-01-01T01:01:00+01:00", 90.0) == "30s"
    assert age("yesterday", 90.0) == "<unknown>"


def test_every_kind_has_as_many_cells_as_columns_whatever_the_object():
    for kind in SCHEME:
        for obj in ({}, {"metadata": {"name": "x"}}, {"metadata": {}, "spec": 3, "status": []}):
            table = render_table(kind, [obj], version="1", now=0.0)
            assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])


def test_numbers_stay_numbers():
    kind = by_kind("tidegate.dev", "ModelServer")
    obj = {"metadata": {"name": "m"}, "status": {"replicas": 3, "readyReplicas": 0}}
    table = render_table(kind, [obj], version="1", now=0.0)
    names = [column["name"] for column in table["columnDefinitions"]]
    cells = dict(zip(names, table["rows"][0]["cells"], strict=True))
    assert (cells["Replicas"], cells["Ready"]) == (3, 0)
