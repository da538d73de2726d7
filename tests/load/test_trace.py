"""Recorded load: reading it, and replaying it."""

import csv
import json
import time
from random import Random

import msgspec
import pytest

from tidegate.load.client import Client, parse_target
from tidegate.load.loop import OpenLoop
from tidegate.load.sessions import Workload, recorded
from tidegate.load.trace import Arrival, TraceError, read
from tidegate.simulator.text import count_tokens


def write(path, *rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_trace_has_times_lengths_and_sessions(tmp_path):
    path = tmp_path / "trace.jsonl"
    write(
        path,
        {"time": 7.5, "prompt_tokens": 20, "output_tokens": 4, "session": "b"},
        {"time": 5, "prompt_tokens": 10, "output_tokens": 3},
    )
    assert read(path) == [Arrival(0.0, 10, 3, "request-2"), Arrival(2.5, 20, 4, "b")]


@pytest.mark.parametrize(
    ("head", "row"),
    [
        (["time", "prompt_tokens", "output_tokens"], ["3", "10", "5"]),
        (["TIMESTAMP", "ContextTokens", "GeneratedTokens"],
         ["2023-11-16 18:15:49.6805900", "10", "5"]),
        (["Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens"],
         ["3", "ChatGPT", "10", "5", "15"]),
    ],
)  # fmt: skip
def test_published_csv_traces_are_read_as_they_are(tmp_path, head, row):
    path = tmp_path / "trace.csv"
    first = ["2023-11-16 18:15:46.6805900" if "-" in row[0] else "0", *row[1:]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, first, row])
    assert [(one.at, one.prompt_tokens, one.output_tokens) for one in read(path)] == [
        (0, 10, 5),
        (pytest.approx(3), 10, 5),
    ]


def test_mooncakes_times_are_milliseconds(tmp_path):
    path = tmp_path / "trace.jsonl"
    rows = [{"timestamp": at, "input_length": 6, "output_length": 2, "hash_ids": [1]}
            for at in (0, 1500)]  # fmt: skip
    write(path, *rows)
    assert [one.at for one in read(path)] == [0, 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no request"),
        ("nonsense\n", "request 1: found 'nonsense', expected an object"),
        ('{"time": 1, "prompt_tokens": 3}\n', "request 1: found no output_tokens"),
        ('{"time": "soon", "prompt_tokens": 3, "output_tokens": 3}\n', "time: found 'soon'"),
        ('{"time": 1, "prompt_tokens": "x", "output_tokens": 3}\n', "prompt_tokens: found 'x'"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        read(path)


def test_a_sessions_prompts_begin_alike_and_have_their_lengths():
    arrivals = [Arrival(0, 40, 5, "a"), Arrival(1, 90, 5, "a"), Arrival(2, 90, 5, "b")]
    requests = recorded(Workload(model="m"), 1, arrivals)
    first, second, other = (
        msgspec.json.decode(one.ask())["messages"][0]["content"] for one in requests
    )
    assert second.startswith(first)
    assert not other.startswith(first)
    assert [count_tokens(one.encode()) for one in (first, second, other)] == [40, 90, 90]
    assert [(one.number, one.first_turn) for one in requests] == [(0, 0), (0, 1), (1, 0)]


async def test_a_replay_starts_requests_at_their_times_with_their_lengths(server):
    arrivals = [Arrival(n * 0.05, 30 + n, 3 + n, f"s{n % 2}") for n in range(6)]
    workload = Workload(model="base", ignore_eos=True)
    requests = recorded(workload, 0, arrivals)
    results = []
    client = Client(parse_target(f"http://{server.address}"), time.perf_counter)
    loop = OpenLoop(
        client, workload, (one.at for one in arrivals), results.append,
        clock=time.perf_counter, conversation=requests.__getitem__,
    )  # fmt: skip
    await loop.run()
    results.sort(key=lambda one: one.started_at)
    assert [one.output_tokens for one in results] == [3, 4, 5, 6, 7, 8]
    assert [(one.session, one.turn) for one in results] == [
        (0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2),
    ]  # fmt: skip
    begin = results[0].started_at - results[0].lag_s
    due = [one.started_at - one.lag_s - begin for one in results]
    assert due == pytest.approx([one.at for one in arrivals], abs=1e-3)


def test_the_same_seed_says_the_same():
    arrivals = [Arrival(0, Random(1).randint(10, 50), 5, "a")]
    bodies = {recorded(Workload(model="m"), seed, arrivals)[0].ask() for seed in (1, 1, 2)}
    assert len(bodies) == 2


def test_what_a_gateway_recorded_is_a_trace(tmp_path):
    path = tmp_path / "0.jsonl"
    path.write_text(
        '{"started_at": 100.5, "duration_s": 1, "session": 7, "prompt_tokens": 90, "events": 12}\n'
        '{"started_at": 101.0, "duration_s": 1, "status": 503, "endpoint": ""}\n'
        '{"started_at": 102.5, "duration_s": 1, "session": 7, "request_bytes": 800, '
        '"output_tokens": 5}\n'
        '{"started_at": 103.5, "duration_s": 1, "request_bytes": "much", "output_tokens": 5}\n'
    )
    with pytest.raises(TraceError, match="request 4: found no prompt_tokens"):
        read(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert read(path) == [Arrival(0.0, 90, 12, "7"), Arrival(2.0, 200, 5, "7")]
