"""Label and field selectors as kubectl users write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.store.selectors import SelectorError, parse_selector


def chosen(labels, selector):
    return parse_selector(selector, "").matches({"metadata": {"name": "x", "labels": labels}})


@pytest.mark.parametrize(
    ("selector", "labels", "wanted"),
    [
        ("", {}, True),
        ("app=llm", {"app": "llm"}, True),
        ("app=llm", {"app": "other"}, False),
        ("app=llm", {}, False),
        ("app==llm", {"app": "llm"}, True),
        ("app=", {"app": ""}, True),
        ("app!=llm", {"app": "other"}, True),
        ("app!=llm", {}, True),
        ("app!=llm", {"app": "llm"}, False),
        ("app in (a, b)", {"app": "b"}, True),
        ("app in (a,b)", {"app": "c"}, False),
        ("app in (a,b)", {}, False),
        ("app notin (a,b)", {"app": "c"}, True),
        ("app notin (a,b)", {}, True),
        ("app notin (a,b)", {"app": "a"}, False),
        ("app in (a,)", {"app": ""}, True),
        ("tidegate.dev/tier", {"tidegate.dev/tier": ""}, True),
        ("tidegate.dev/tier", {}, False),
        ("!app", {}, True),
        ("!app", {"app": "x"}, False),
        ("size>3", {"size": "4"}, True),
        ("size>3", {"size": "3"}, False),
        ("size<3", {"size": "big"}, False),
        ("app=llm,tier in (gold,silver),!old", {"app": "llm", "tier": "gold"}, True),
        ("app=llm,tier in (gold,silver),!old", {"app": "llm", "tier": "gold", "old": ""}, False),
        (" app = llm , !old ", {"app": "llm"}, True),
        ("in in (in)", {"in": "in"}, True),
    ],
)
def test_a_label_selector_chooses(selector, labels, wanted):
    assert chosen(labels, selector) is wanted


@pytest.mark.parametrize(
    "selector", ["=x", "app in", "app in (a", "app in a)", "a,,b", "a b", "a=b,", "-a=b", "app=a b"]
)
def test_a_broken_label_selector_says_what_it_found(selector):
    with pytest.raises(SelectorError, match="unable to parse requirement: found"):
        parse_selector(selector, "")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ("metadata.name=x", True),
        ("metadata.name=y", False),
        ("metadata.name!=y", True),
        ("metadata.name==x,metadata.namespace=team", True),
        ("metadata.name=x,metadata.namespace!=team", False),
    ],
)
def test_a_field_selector_chooses_by_name_and_namespace(fields, wanted):
    selector = parse_selector("", fields)
    assert selector.matches({"metadata": {"name": "x", "namespace": "team"}}) is wanted


def test_other_fields_are_refused():
    with pytest.raises(SelectorError, match=r"field label not supported: spec\.x"):
        parse_selector("", "spec.x=1")
    with pytest.raises(SelectorError, match="expected field=value"):
        parse_selector("", "metadata.name")


keys = st.from_regex(r"[a-z]([-a-z]{0,5}[a-z])?", fullmatch=True)
values = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)


@given(keys, st.frozensets(values, min_size=1, max_size=4), st.dictionaries(keys, values))
def test_in_and_notin_are_opposites(key, wanted, labels):
    listed = ",".join(sorted(wanted))
    assert chosen(labels, f"{key} in ({listed})") is not chosen(labels, f"{key} notin ({listed})")


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text):
    with contextlib.suppress(SelectorError):
        parse_selector(text, text)
