"""Logs: their form, their level, and that credentials stay out."""

import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tidegate.judge.record import Record
from tidegate.telemetry import logs
from tidegate.telemetry.access import AccessLog
from tidegate.telemetry.logs import REDACTED, redact


@pytest.fixture
def written(capsys):
    """Return a function that configures logs and gives one that reads what was written."""

    def configured(*args):
        logs.configure(*args)
        return lambda: capsys.readouterr().err

    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield configured
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


def lines(read):
    return [json.loads(line) for line in read().splitlines()]


def test_json_is_one_object_a_line(written):
    read = written("json", "info")
    structlog.get_logger().info("scrape failed", endpoint="a:1", error="two\nlines")
    (line,) = lines(read)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "scrape failed",
        "level": "info",
        "endpoint": "a:1",
        "error": "two\nlines",
    }


def test_console_is_for_people(written):
    read = written("console", "info")
    structlog.get_logger().info("scrape failed", endpoint="a:1")
    told = read()
    assert "scrape failed" in told
    assert "endpoint=a:1" in told
    assert "\x1b" not in told


def test_less_than_the_level_is_not_logged(written):
    read = written("json", "warning")
    for logger in (structlog.get_logger(), logging.getLogger("lib")):
        logger.info("no")
        logger.warning("yes")
    assert [line["event"] for line in lines(read)] == ["yes", "yes"]


def test_an_unknown_level_is_refused(written):
    with pytest.raises((KeyError, ValueError)):
        written("json", "loud")


def test_other_libraries_logs_have_the_same_form(written):
    read = written("json", "info")
    logging.getLogger("some.library").warning("lost %s with Bearer abc.def", "it")
    (line,) = lines(read)
    assert (line["event"], line["level"]) == (f"lost it with Bearer {REDACTED}", "warning")


def test_clients_that_log_each_request_are_quiet(written):
    read = written("json", "info")
    logging.getLogger("httpx").info("HTTP Request: GET /")
    logging.getLogger("httpx").warning("trouble")
    assert [line["event"] for line in lines(read)] == ["trouble"]


def test_a_traceback_is_a_field(written):
    read = written("json", "info")
    try:
        raise LookupError("with sk-abcdefghijkl")
    except LookupError:
        structlog.get_logger().exception("failed")
    (line,) = lines(read)
    assert "LookupError" in line["exception"]
    assert "sk-abcdefghijkl" not in line["exception"]


@pytest.mark.parametrize(
    "name",
    ["authorization", "Proxy-Authorization", "api_key", "OPENAI_API_KEY", "x-api-key", "apikey",
     "token", "access_token", "client-secret", "password", "Cookie", "set-cookie", "private_key"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["hunter2", b"hunter2", ["hunter2"]])
def test_fields_named_like_credentials_are_redacted(name, value):
    for event in ({name: value}, {"headers": {name: value}}, {"all": [{"inner": {name: value}}]}):
        told = repr(redact(None, "info", event))
        assert "hunter2" not in told
        assert REDACTED in told


@pytest.mark.parametrize(
    "value",
    ["Authorization: Bearer hunter2", "basic hunter2==", "key sk-hunter2hunter2 used",
     "https://user:hunter2@host/path", "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END"],
)  # fmt: skip
def test_values_that_look_like_credentials_are_redacted(value):
    for event in ({"event": value}, {"error": value.encode()}, {"all": (1, [value])}):
        assert "hunter2" not in repr(redact(None, "info", event))


@pytest.mark.parametrize(
    ("name", "value"),
    [("tokens", 17), ("token", 17), ("max_tokens", 5), ("endpoint", "127.0.0.1:8000"),
     ("path", "/v1/models"), ("tokenizer", "llama"), ("error", "bearer"), ("none", None)],
)  # fmt: skip
def test_harmless_fields_stay(name, value):
    assert redact(None, "info", {name: value}) == {name: value}


nested = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), nested))
def test_any_event_can_be_redacted_and_written(event):
    json.dumps(redact(None, "info", event))


def test_an_access_line_says_what_happened_to_a_request(written):
    read = written("json", "info")
    log = AccessLog("json")
    record = Record(started_at=1e9, route="default/r", arm="a", model="m", status=200, events=3)
    record.target = "m-v2"
    record.duration_s = 0.12345678
    log.note(record)
    log.flush()
    (line,) = lines(read)
    assert line == {
        "event": "request",
        "level": "info",
        "timestamp": "2001-09-09T01:46:40.123457Z",
        "route": "default/r",
        "arm": "a",
        "model": "m",
        "target": "m-v2",
        "status": 200,
        "events": 3,
        "duration_s": 0.123457,
    }


def test_a_client_cannot_forge_or_flood_access_lines(written):
    for log_format in ("console", "json"):
        read = written(log_format, "info")
        log = AccessLog(log_format)
        log.note(Record(method="GET\n2026 fake", model="\x1b[31m" + "m" * 5000, status=400))
        log.flush()
        (line,) = read().splitlines()
        assert "\x1b" not in line
        assert len(line) < 600


def test_access_lines_of_both_formats_say_the_same_without_credentials(written):
    told = {}
    for log_format in ("console", "json"):
        read = written(log_format, "info")
        log = AccessLog(log_format)
        for number in range(3):
            log.note(Record(model="sk-hunter2hunter2", status=200 + number, ttft_s=0.5))
        log.flush()
        told[log_format] = read()
        assert "hunter2" not in told[log_format]
        assert [f"{number}" in told[log_format] for number in (200, 201, 202)] == [True] * 3
    first = json.loads(told["json"].splitlines()[0])
    assert all(
        f"{name}={value}" in told["console"]
        for name, value in first.items()
        if name not in {"event", "level", "timestamp"}
    )
