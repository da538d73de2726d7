import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.load.report import percentiles, summarise
from tidegate.load.result import Result


def result(session=0, turn=0, pool="a", error="", at=0.0, **fields) -> Result:
    return Result(session, turn, at, status=200, pool=pool, error=error, **fields)


def test_shares_are_counted_over_requests_and_over_sessions():
    results = [
        *(result(0, turn, "a") for turn in range(6)),
        result(1, 0, "b"),
        result(2, 0, "b"),
    ]
    report = summarise(results)
    assert report.pools["a"].share == pytest.approx(0.75)
    assert report.pools["a"].session_share == pytest.approx(1 / 3)
    assert report.pools["b"].sessions == 2


def test_a_session_belongs_to_its_first_pool_and_counts_as_moved():
    report = summarise([result(0, 1, "b"), result(0, 0, "a"), result(1, 0, "b")])
    assert report.moved_sessions == 1
    assert report.pools["a"].sessions == report.pools["b"].sessions == 1


def test_failures_are_counted_by_kind_and_left_out_of_latencies():
    report = summarise(
        [
            result(ttft_s=0.1, duration_s=0.2),
            result(ttft_s=9.0, duration_s=9.0, error="reset", detail="gone"),
            result(pool="", error="connect"),
        ]
    )
    assert report.failed == 2
    assert report.errors == {"reset": 1, "connect": 1}
    assert report.examples["reset"] == "gone"
    assert report.ttft.max == pytest.approx(0.1)
    assert report.pools[""].failed == 1
    assert report.pools["a"].share == 1


def test_rates_are_over_the_time_from_first_start_to_last_end():
    report = summarise([result(at=1.0, duration_s=1.0), result(at=4.0, duration_s=1.0, events=8)])
    assert report.duration_s == pytest.approx(4)
    assert report.requests_per_s == pytest.approx(0.5)
    assert report.events_per_s == pytest.approx(2)


def test_no_result_is_a_report_too():
    assert summarise([]).requests == 0


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_values_that_were_seen_in_order(values):
    seen = percentiles(values)
    ordered = [seen.p50, seen.p90, seen.p95, seen.p99, seen.max]
    assert ordered == sorted(ordered)
    assert set(ordered) <= set(values)
    assert seen.count == len(values)
