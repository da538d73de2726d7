"""The small parser, against prometheus_client's and against anything."""

import math

from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tidegate.scrape.prometheus import MAX_SERIES, find_series, parse_labels

NAME = b"vllm:num_requests_waiting"
names = st.sampled_from(["a", "ab", "a_b", "vllm:num_requests_waiting", "a:b"])
values = st.floats(allow_nan=True, allow_infinity=True)
labels = st.dictionaries(
    st.sampled_from(["model_name", "engine", "x"]), st.text(max_size=8), max_size=3
)
expositions = st.dictionaries(names, st.tuples(labels, st.lists(values, min_size=1, max_size=3)))


def series(text, name=NAME):
    return [(parse_labels(s.labels), s.value) for s in find_series(text, name)]


def exposed(metrics):
    registry = CollectorRegistry()
    for name, (fixed, several) in metrics.items():
        gauge = Gauge(name, "Help\nwith {braces} and\n" + name, [*fixed, "n"], registry=registry)
        for index, value in enumerate(several):
            gauge.labels(*fixed.values(), str(index)).set(value)
    return generate_latest(registry)


@given(expositions)
def test_it_agrees_with_the_official_parser(metrics):
    text = exposed(metrics)
    expected = {}
    for family in text_string_to_metric_families(text.decode()):
        expected[family.name] = [(sample.labels, sample.value) for sample in family.samples]
    for name in metrics:
        assert repr(series(text, name.encode())) == repr(expected[name])


@given(st.binary(max_size=200), st.binary(max_size=200))
@example(b"", b'{a="')
@example(b"\n", b"{" + b'"' * 500)
@example(b"\n", b"{" + b'a="\\' * 200)
def test_no_input_raises(before, after):
    for text in (before + after, before + NAME + after, before + b"\n" + NAME + after):
        for one in find_series(text, NAME):
            parse_labels(one.labels)


@given(st.lists(st.sampled_from([NAME, b"{", b"}", b'"', b"\\", b"\n", b" ", b"1", b"x=", b","])))
def test_pieces_of_format_in_any_order_do_not_raise(pieces):
    for one in find_series(b"".join(pieces), NAME):
        parse_labels(one.labels)


def test_it_reads_what_vllm_writes():
    text = b"""# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0
"""
    assert series(text) == [
        ({"engine": "0", "model_name": "m"}, 3.0),
        ({"engine": "1", "model_name": "m"}, 4.0),
    ]


def test_odd_but_valid_spellings_are_read():
    assert series(NAME + b" 1") == [({}, 1.0)]
    assert series(NAME + b"\t{ } \t2 1700000000000\n") == [({}, 2.0)]
    assert series(NAME + b'{ a = "}\\"{\\n" , } 3\r\n') == [({"a": '}"{\n'}, 3.0)]
    assert series(NAME + b" 1\n" + NAME + b" +Inf\n")[1][1] == math.inf


def test_what_is_no_series_is_stepped_over():
    broken = [b" ", b"", b" x", b"{", b'{a="} 1', b"_total 1", b" \n5", b'{a="b"}']
    for rest in broken:
        assert series(NAME + rest + b"\n" + NAME + b" 7\n") == [({}, 7.0)], rest
    assert series(b"x" + NAME + b" 1\n# " + NAME + b" 2\n") == []


def test_endless_repetition_is_cut():
    assert len(series((NAME + b" 1\n") * (MAX_SERIES + 5))) == MAX_SERIES
