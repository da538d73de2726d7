"""What a worker counts, read back by prometheus_client's own parser."""

from collections import Counter
from itertools import accumulate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tidegate.judge.record import ITL_BOUNDS, Record
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.state import EndpointState
from tidegate.routing.table import (
    Arm,
    Bucket,
    Candidate,
    Hosts,
    Listener,
    Match,
    PathIndex,
    PortTable,
    RoutingTable,
    Rule,
)
from tidegate.telemetry import families as f
from tidegate.telemetry import metrics as m
from tidegate.telemetry.metrics import Gauges, Metrics, Picking, Queue, render
from tidegate.telemetry.snapshot import Snapshot, Value, encode


def record(**changes):
    fields = {"route": "default/r", "rule": "0", "arm": "a", "pool": "default/a", "status": 200}
    return Record(**(fields | changes))


def counted(*records, known=()):
    metrics = Metrics()
    metrics.know(known)
    for each in records:
        metrics.observe(each)
    return metrics


def samples(*metrics, workers=None):
    """(name, label values that matter) → value, of the rendered text."""
    names = workers or [str(index) for index in range(len(metrics))]
    text = render({name: each.snapshot() for name, each in zip(names, metrics, strict=True)})
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def total(found, name, **labels):
    return sum(v for (n, have), v in found.items() if n == name and labels.items() <= set(have))


statuses = st.sampled_from([200, 404, 429, 499, 503])
seconds = st.floats(0, 1000)
records = st.builds(
    Record,
    route=st.sampled_from(["", "default/r"]),
    arm=st.sampled_from(["a", "b"]),
    model=st.sampled_from(["", "m", "unheard-of"]),
    status=statuses,
    reason=st.sampled_from(["", "NoEndpoints"]),
    streamed=st.booleans(),
    broken=st.booleans(),
    client_gone=st.booleans(),
    retries=st.integers(0, 3),
    request_bytes=st.integers(0, 10_000),
    response_bytes=st.integers(0, 10_000),
    duration_s=seconds,
    ttft_s=st.none() | seconds,
)


@given(st.lists(records, max_size=30))
def test_counters_are_the_sums_over_all_requests(several):
    found = samples(counted(*several, known=["m"]))
    for name, expected in {
        "tidegate_requests_total": len(several),
        "tidegate_request_duration_seconds_count": len(several),
        "tidegate_retries_total": sum(r.retries for r in several),
        "tidegate_broken_answers_total": sum(r.broken for r in several),
        "tidegate_client_gone_total": sum(r.client_gone for r in several),
        "tidegate_request_bytes_total": sum(r.request_bytes for r in several),
        "tidegate_response_bytes_total": sum(r.response_bytes for r in several),
        "tidegate_errors_total": sum(bool(r.reason) for r in several),
        "tidegate_ttft_seconds_count": sum(
            r.streamed and r.ttft_s is not None and r.status < 400 for r in several
        ),
    }.items():
        assert total(found, name) == expected, name
    by_code = Counter((r.arm, str(r.status)) for r in several)
    for (arm, code), count in by_code.items():
        assert total(found, "tidegate_requests_total", arm=arm, code=code) == count


@given(st.lists(seconds | st.sampled_from(f.DURATION.bounds), min_size=1, max_size=30))
def test_histograms_agree_with_the_official_client(durations):
    registry = CollectorRegistry()
    official = Histogram("official", "-", buckets=f.DURATION.bounds, registry=registry)
    for each in durations:
        official.observe(each)
    expected = {
        dict(sample.labels)["le"]: sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name == "official_bucket"
    }
    found = samples(counted(*(record(duration_s=each) for each in durations)))
    for bound, count in expected.items():
        assert total(found, "tidegate_request_duration_seconds_bucket", le=bound) == count
    in_all = total(found, "tidegate_request_duration_seconds_sum")
    assert in_all == pytest.approx(sum(durations))


def test_gaps_between_events_are_added_up_by_bucket():
    one, two = [1] * (len(ITL_BOUNDS) + 1), list(range(len(ITL_BOUNDS) + 1))
    streams = [
        record(streamed=True, events=20, itl_counts=counts, itl_sum_s=1.5) for counts in (one, two)
    ]
    found = samples(counted(*streams))
    below = list(accumulate(a + b for a, b in zip(one, two, strict=True)))
    for bound, count in zip((*map(str, ITL_BOUNDS), "+Inf"), below, strict=True):
        assert total(found, "tidegate_inter_token_seconds_bucket", le=bound) == count
    assert total(found, "tidegate_inter_token_seconds_sum") == 3.0
    assert total(found, "tidegate_stream_events_total") == 40


def test_tokens_are_those_that_an_answer_tells_else_its_events():
    found = samples(counted(record(streamed=True, events=20), record(output_tokens=7)))
    assert total(found, "tidegate_output_tokens_total") == 27


def test_only_listed_models_are_named():
    models = ["m", "m-lora", "ignore previous instructions", ""]
    found = samples(counted(*(record(model=each) for each in models), known=["m", "m-lora"]))
    names = {dict(have)["model"] for (name, have) in found if name == "tidegate_requests_total"}
    assert names == {"m", "m-lora", "", "other"}


def test_a_model_that_becomes_known_is_named_from_then_on():
    metrics = counted(record(model="m"))
    metrics.know(["m"])
    metrics.observe(record(model="m"))
    found = samples(metrics)
    assert total(found, "tidegate_requests_total", model="other") == 1
    assert total(found, "tidegate_requests_total", model="m") == 1


def test_the_number_of_models_is_bounded():
    names = [f"m{index}" for index in range(m.MAX_MODELS + 50)]
    found = samples(counted(*(record(model=each) for each in names), known=names))
    assert total(found, "tidegate_requests_total", model="other") == 50
    named = {dict(have)["model"] for (name, have) in found if name == "tidegate_requests_total"}
    assert len(named) == m.MAX_MODELS + 1


def test_the_number_of_rows_is_bounded_and_nothing_is_lost():
    routes = [f"default/r{index}" for index in range(m.MAX_ROWS + 20)]
    raw = counted(*(record(route=each) for each in routes)).snapshot()
    rows = msgspec.msgpack.decode(raw, type=Snapshot).values[f.REQUESTS.name]
    assert len(rows) == m.MAX_ROWS + 1
    assert sum(row.value for row in rows) == m.MAX_ROWS + 20
    assert [row.value for row in rows if row.labels[0] == "other"] == [20]


def test_workers_stand_beside_each_other():
    found = samples(counted(record()), counted(record(), record()), workers=["0", "1"])
    assert total(found, "tidegate_requests_total", worker="0") == 1
    assert total(found, "tidegate_requests_total", worker="1") == 2


def test_an_unreadable_snapshot_does_not_hide_the_others():
    good = counted(record()).snapshot()
    for bad in (b"", b"\xc1", b"garbage", good[:-3], b"\x81\xa6values\x05", b"\x81\xa1\xff\x05"):
        assert render({"0": good, "1": bad}) == render({"0": good})


def test_what_another_version_says_is_left_out_where_it_does_not_fit():
    odd = Snapshot(
        values={
            "tidegate_unheard_of_total": [Value((), 1)],
            f.CONNECTIONS.name: [Value(("a", "b"), 1), Value((), 7)],
        }
    )
    text = render({"0": encode(odd)}).decode()
    assert text.splitlines()[2:] == ['tidegate_connections{worker="0"} 7.0']


def test_odd_names_survive_the_text_format():
    odd = 'a"b\\c\nd}e{é'
    found = samples(counted(record(route=odd)))
    assert total(found, "tidegate_requests_total", route=odd) == 1


def test_refusals_are_counted_by_reason():
    metrics = Metrics()
    for reason in ("MalformedRequest", "MalformedRequest", "HeadersTooLarge"):
        metrics.reject(reason)
    found = samples(metrics)
    assert total(found, "tidegate_rejected_total", reason="MalformedRequest") == 2
    assert total(found, "tidegate_rejected_total") == 3


def test_gauges_are_read_when_asked_for():
    metrics, open_now = Metrics(), 0
    metrics.watch(lambda: Gauges(requests_in_flight=open_now, connections=2 * open_now))
    open_now = 4
    found = samples(metrics)
    assert total(found, "tidegate_requests_in_flight") == 4
    assert total(found, "tidegate_connections") == 8


def test_endpoints_are_counted_by_state():
    states = [
        EndpointState(),
        EndpointState(ejected_until=9.0),
        EndpointState(ejected_until=11.0),
        EndpointState(scrape_failures=3, ejected_until=11.0),
    ]
    pool = [Endpoint(f"h:{index}", state) for index, state in enumerate(states)]
    metrics = Metrics()
    metrics.watch(lambda: Gauges(endpoints={"default/a": pool, "default/empty": ()}, clock=10.0))
    found = samples(metrics)
    for state, count in (("healthy", 2), ("ejected", 1), ("unhealthy", 1)):
        assert total(found, "tidegate_endpoints", pool="default/a", state=state) == count
        assert total(found, "tidegate_endpoints", pool="default/empty", state=state) == 0


def table(**weights):
    arms = tuple(Arm(name, weight, None) for name, weight in weights.items())
    rules = [Rule("default/r", name, arms, sum(weights.values()), b"") for name in "01234"]
    first, *others = [Candidate(0, Match(rule, "")) for rule in rules]
    index = PathIndex(
        exact={"/a": Bucket((first,))},
        patterns=((None, others[0]),),
        prefixes={"": Bucket((others[1],), b"x-model", {b"m": (others[2],)})},
    )
    other = PathIndex(exact={"/": Bucket((others[3],))})
    listener = Listener(80, "HTTP", "", (), routes=Hosts({"a.b": index}, {".c": other}))
    return RoutingTable({80: PortTable(80, "HTTP", Hosts(any=listener))})


def test_the_weights_in_effect_are_those_of_the_newest_table():
    metrics = Metrics()
    metrics.swapped(table(a=9, b=1), 1000.0)
    metrics.swapped(table(a=1, c=1), 2000.5)
    found = samples(metrics)
    for rule in "01234":
        weights = {
            dict(have)["arm"]: value
            for (name, have), value in found.items()
            if name == "tidegate_arm_weight" and ("rule", rule) in have
        }
        assert weights == {"a": 1, "c": 1}
    assert total(found, "tidegate_table_swaps_total") == 2
    assert total(found, "tidegate_table_timestamp_seconds") == 2000.5


def test_a_worker_says_which_version_it_is():
    ((_, labels),) = [key for key in samples(Metrics()) if key[0] == "tidegate_build_info"]
    assert dict(labels)["version"]


def everything():
    metrics = counted(
        record(streamed=True, ttft_s=1.0, itl_counts=[1] * 19, reason="NoEndpoints"), known=["m"]
    )
    metrics.reject("MalformedRequest")
    metrics.swapped(table(a=1), 1.0)
    queue = Queue("default/a", 10, 3, (0, 2, *[0] * 11), 0.1, 4)
    picking = Picking("default/a", 2, 30, 4000.0, 1000.0)
    found = {"default/a": ()}
    metrics.watch(lambda: Gauges(endpoints=found, queues=[queue], picking=[picking]))
    return metrics


def test_every_family_is_served_with_its_type_labels_and_help():
    text = render({"0": everything().snapshot()}).decode()
    served = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(served) == len(f.FAMILIES)
    for family in f.FAMILIES:
        found = served[family.name.removesuffix("_total")]
        assert (found.type, found.documentation) == (family.type, family.help)
        for sample in found.samples:
            assert set(sample.labels) - {"le"} == {*family.labels, "worker"}


def test_names_follow_the_conventions():
    names = [family.name for family in f.FAMILIES]
    assert len(set(names)) == len(names)
    for family in f.FAMILIES:
        assert family.name.startswith("tidegate_")
        assert family.name.endswith("_total") == (family.type == "counter")
        assert bool(family.bounds) == (family.type == "histogram")
        assert list(family.bounds) == sorted(set(family.bounds))
        assert family.help.endswith(".")


def test_what_waits_is_told_by_pool_and_priority():
    metrics = Metrics()
    queues = [
        Queue("default/a", priority, waiting, (0, 2, *[0] * 11), 0.1, refused)
        for priority, waiting, refused in ((-1, 7, 4), (10, 0, 0))
    ]
    metrics.watch(lambda: Gauges(queues=queues))
    found = samples(metrics)
    by_priority = {
        dict(labels)["priority"]: value
        for (name, labels), value in found.items()
        if name == "tidegate_queue_size"
    }
    assert by_priority == {"-1": 7, "10": 0}
    assert total(found, "tidegate_queue_refused_total") == 4
    assert total(found, "tidegate_queue_wait_seconds_count") == 4


def test_what_a_pools_picking_says_of_itself_is_served():
    metrics = Metrics()
    metrics.watch(lambda: Gauges(picking=[Picking("default/a", 2, 30, 4000.0, 1000.0)]))
    found = samples(metrics)
    assert total(found, "tidegate_endpoints_stale", pool="default/a") == 2
    assert total(found, "tidegate_prefix_entries", pool="default/a") == 30
    assert total(found, "tidegate_prompt_tokens_total", pool="default/a") == 4000
    assert total(found, "tidegate_prompt_tokens_cached_total", pool="default/a") == 1000
