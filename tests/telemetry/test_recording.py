"""Requests on disk: whole lines, bounded files, and never a reason to fail a request."""

from pathlib import Path

import pytest

from tidegate.judge.record import Record
from tidegate.judge.recorded import read
from tidegate.telemetry import recording
from tidegate.telemetry.recording import BATCH, Recording


def record(at: float) -> Record:
    return Record(started_at=at, duration_s=0.001, status=200, endpoint="10.0.0.1:8000")


def recorded(path: Path) -> list[float]:
    with path.open("rb") as lines:
        return [each.started_at for each in read(lines, path.name)]


def test_nothing_is_made_before_the_first_request(tmp_path: Path):
    Recording(tmp_path / "records", "w").flush()
    assert not (tmp_path / "records").exists()


def test_requests_are_written_in_batches_and_the_rest_at_the_end(tmp_path: Path):
    kept = Recording(tmp_path, "w")
    times = [1e9 + index / 1000 for index in range(BATCH + 10)]
    for at in times:
        kept.note(record(at))
    assert 0 < len(recorded(tmp_path / "w.jsonl")) <= BATCH + 1
    kept.flush()
    assert recorded(tmp_path / "w.jsonl") == times


def test_seldom_requests_are_written_as_they_come(tmp_path: Path):
    kept = Recording(tmp_path, "w")
    for at in (1e9, 1e9 + 5, 1e9 + 10):
        kept.note(record(at))
        assert recorded(tmp_path / "w.jsonl")[-1] == at


def test_a_full_file_is_put_aside_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "MOST_BYTES", 200)
    kept = Recording(tmp_path, "w")
    for index in range(20):
        kept.note(record(1e9 + 5 * index))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["w.jsonl", "w.older.jsonl"]
    assert all((tmp_path / name).stat().st_size <= 200 for name in files)
    assert recorded(tmp_path / "w.jsonl")[-1] == 1e9 + 95


def test_a_folder_that_cannot_be_made_ends_the_recording_alone(tmp_path: Path):
    (tmp_path / "file").write_text("")
    kept = Recording(tmp_path / "file" / "records", "w")
    for index in range(3):
        kept.note(record(1e9 + 5 * index))
    kept.flush()
