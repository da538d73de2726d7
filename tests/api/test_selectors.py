import pytest

from tidegate.api.gateway import LabelRequirement, NamespaceSelector
from tidegate.api.meta import LabelSelector

LABELS = {"team": "ml", "env": "prod"}


@pytest.mark.parametrize(
    ("operator", "key", "values", "holds"),
    [
        ("In", "team", ("ml", "web"), True),
        ("In", "team", ("web",), False),
        ("In", "zone", ("a",), False),
        ("NotIn", "team", ("web",), True),
        ("NotIn", "team", ("ml",), False),
        ("NotIn", "zone", ("a",), True),
        ("Exists", "team", (), True),
        ("Exists", "zone", (), False),
        ("DoesNotExist", "zone", (), True),
        ("DoesNotExist", "team", (), False),
    ],
)
def test_an_expression_holds_of_labels(
    operator: str, key: str, values: tuple[str, ...], holds: bool
):
    assert LabelRequirement(key=key, operator=operator, values=values).matches(LABELS) is holds


def test_labels_and_expressions_must_all_hold():
    known = LabelRequirement(key="env", operator="Exists")
    unknown = LabelRequirement(key="zone", operator="Exists")
    same = {"team": "ml"}
    assert NamespaceSelector(match_labels=same, match_expressions=(known,)).matches(LABELS)
    assert not NamespaceSelector(match_labels=same, match_expressions=(unknown,)).matches(LABELS)
    assert not NamespaceSelector(match_labels={"team": "web"}).matches(LABELS)


def test_an_empty_selector_selects_everything():
    assert NamespaceSelector().matches({})
    assert LabelSelector().matches({})


def test_a_label_selector_asks_for_every_label():
    assert LabelSelector(match_labels={"team": "ml"}).matches(LABELS)
    assert not LabelSelector(match_labels={"team": "ml", "zone": "a"}).matches(LABELS)
