"""What a workload file may say."""

from pathlib import Path

import pytest

from tidegate.api.errors import FieldError
from tidegate.fleet.workload import WorkloadError, parse, read


def test_a_short_file_is_enough():
    workload = parse("traffic: [{name: chat, rate: 2}]")
    assert workload.size == 8
    assert workload.traffic[0].turns == 1


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("traffic: [{name: a, rate: 0}]", "traffic[0].rate"),
        ("traffic: [{name: a}]", "traffic[0]"),
        ("traffic: [{name: a, rate: 1, trace: b}]", "traffic[0]"),
        ("traffic: [{name: a, rate: 1}, {name: a, rate: 2}]", "traffic[1].name"),
        ("traffic: [{name: a, rate: 1, think: soon}]", "traffic[0].think"),
        ("servers: [{profile: abacus}]", "servers[0].profile"),
        ("troubles: [{at: 1s, server: 8, what: down}]", "troubles[0].server"),
        ("troubles: [{at: 1s, server: 1, what: sad}]", "troubles[0].what"),
        ("duration: 1 minute", "duration"),
        ("speed: 3", "the file"),
        ("- a", "the file"),
        ("a: [", ""),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(text: str, where: str):
    with pytest.raises(FieldError) as caught:
        parse(text)
    assert caught.value.path == where


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path):
    with pytest.raises(WorkloadError, match=r"fleet\.yaml"):
        read(tmp_path / "fleet.yaml")
