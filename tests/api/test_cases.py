"""Bad manifests and every error that they must give: `cases/*.yaml`."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tidegate.api.errors import InvalidError
from tidegate.api.validate import admit
from tidegate.api.versions import kind_of

CASES = Path(__file__).parent / "cases"


def cases() -> Iterator[object]:
    for path in sorted(CASES.glob("*.yaml")):
        suite = yaml.safe_load(path.read_text())
        for case in suite["cases"]:
            what, errors = case.pop("what"), case.pop("errors", [])
            yield pytest.param({**suite["base"], **case}, errors, id=f"{path.stem}: {what}")


@pytest.mark.parametrize(("manifest", "errors"), list(cases()))
def test_a_bad_manifest_is_refused_with_all_its_errors(manifest: dict, errors: list[str]):
    kind = kind_of(manifest)
    with pytest.raises(InvalidError) as refused:
        admit(kind, manifest["apiVersion"].rpartition("/")[2], manifest)
    assert [str(error) for error in refused.value.errors] == errors


def test_an_expression_that_was_compiled_elsewhere_is_warned_of_all_the_same():
    case = next(
        one for one in cases() if one.id == "httproute: regular expressions that don't compile"
    )
    manifest, errors = case.values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        re.compile("[[a]")
    test_a_bad_manifest_is_refused_with_all_its_errors(manifest, errors)
