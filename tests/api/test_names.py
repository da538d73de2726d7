import pytest

from tidegate.api.durations import parse_duration
from tidegate.api.errors import Described, FieldError
from tidegate.api.names import is_label, is_label_value, is_qualified_name, is_subdomain


@pytest.mark.parametrize(
    ("text", "label", "subdomain"),
    [
        ("llm", True, True),
        ("llm-new", True, True),
        ("9", True, True),
        ("llm.new", False, True),
        ("a" * 63, True, True),
        ("a" * 64, False, True),
        ("a." * 126 + "a", False, True),
        ("a." * 127 + "a", False, False),
        ("", False, False),
        ("-a", False, False),
        ("a-", False, False),
        ("a..b", False, False),
        ("A", False, False),
        ("a_b", False, False),
        ("a\n", False, False),
        ("é", False, False),
    ],
)
def test_names_follow_rfc_1123(text: str, label: bool, subdomain: bool):
    assert (is_label(text), is_subdomain(text)) == (label, subdomain)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("app", True),
        ("App_1.b", True),
        ("app.kubernetes.io/name", True),
        ("tidegate.dev/A", True),
        ("", False),
        ("/a", False),
        ("a/", False),
        ("A.b/c", False),
        ("a/b/c", False),
        ("a" * 64, False),
        ("a b", False),
    ],
)
def test_keys_are_names_with_an_optional_domain(text: str, good: bool):
    assert is_qualified_name(text) is good


def test_a_label_may_be_empty():
    assert is_label_value("")
    assert not is_label_value("-")
    assert not is_label_value("a" * 64)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("1h1m1s1ms", 3661.001)],
)
def test_durations_are_seconds(text: str, seconds: float):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1.5s", "-1s", "1d", "1s ", "1s\n", "123456s", "\u0661s"]
)
def test_other_text_is_no_duration(text: str):
    with pytest.raises(FieldError, match="a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("error", "text", "detail"),
    [
        (
            FieldError("spec.a", -1, "an integer"),
            "spec.a: found -1, expected an integer",
            "Invalid value: -1: expected an integer",
        ),
        (
            FieldError("spec.a", None, "a name", "FieldValueRequired"),
            "spec.a: found nothing, expected a name",
            "Required value: expected a name",
        ),
        (
            FieldError("spec.a", "x" * 500, "less"),
            f'spec.a: found "{"x" * 119}…, expected less',
            f'Invalid value: "{"x" * 119}…: expected less',
        ),
        (
            FieldError("spec.a", Described("2 backends"), "none", "FieldValueForbidden"),
            "spec.a: found 2 backends, expected none",
            "Forbidden: expected none",
        ),
        (
            FieldError("a\ud800", "b\ud800", "text"),
            'a\\ud800: found "b\\ud800", expected text',
            'Invalid value: "b\\ud800": expected text',
        ),
    ],
)
def test_a_field_error_says_where_what_and_how_to_mend(error: FieldError, text: str, detail: str):
    assert str(error) == text
    assert error.detail == detail
