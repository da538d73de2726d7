"""What names, labels and annotations may look like, and the checks of `metadata`.

The forms are Kubernetes' (`apimachinery/pkg/util/validation`): RFC 1123 names, and
qualified names `prefix/name`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tidegate.api.errors import Described, FieldError
from tidegate.api.scheme import Kind

_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_LABEL: Final = re.compile(rf"{_LABEL}\Z")
DNS_LABEL_1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
DNS_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\Z")
_NAME_PART: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")

LONGEST_LABEL: Final = 63
LONGEST_SUBDOMAIN: Final = 253
MOST_ANNOTATION_BYTES: Final = 256 * 1024

KNOWN_FIELDS: Final = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
"""The fields of ObjectMeta (`apimachinery/pkg/apis/meta/v1/types.go`)."""

_TEXTS: Final = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "selfLink")


def is_text(value: object) -> bool:
    r"""Whether `value` is text that UTF-8 can write: JSON's `\ud800` is not."""
    return isinstance(value, str) and (
        value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def is_label(text: str) -> bool:
    """Whether `text` is an RFC 1123 label."""
    return len(text) <= LONGEST_LABEL and DNS_LABEL.match(text) is not None


def is_subdomain(text: str) -> bool:
    """Whether `text` is an RFC 1123 subdomain."""
    return len(text) <= LONGEST_SUBDOMAIN and DNS_SUBDOMAIN.match(text) is not None


def is_qualified_name(text: str) -> bool:
    """Whether `text` is `name` or `prefix/name`."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= LONGEST_LABEL and _NAME_PART.match(name) is not None


def is_label_value(text: str) -> bool:
    """Whether `text` may be the value of a label."""
    return not text or (len(text) <= LONGEST_LABEL and _NAME_PART.match(text) is not None)


def metadata_errors(kind: Kind, metadata: Mapping[str, Any]) -> Iterator[FieldError]:
    """Yield what is wrong with an object's metadata."""
    yield from _name_errors(kind, metadata)
    yield from _namespace_errors(kind, metadata.get("namespace"))
    yield from _label_errors(metadata.get("labels", {}))
    yield from _annotation_errors(metadata.get("annotations", {}))
    yield from _finalizer_errors(metadata.get("finalizers", []))
    for field in _TEXTS:
        if not is_text(metadata.get(field, "")):
            yield _type_error(f"metadata.{field}", metadata[field], "text")
    for field in ("managedFields", "ownerReferences"):
        yield from _objects_errors(f"metadata.{field}", metadata.get(field, []))
    generation = metadata.get("generation", 0)
    if not isinstance(generation, int) or isinstance(generation, bool) or generation < 0:
        yield _type_error("metadata.generation", generation, "an integer of at least 0")


def _type_error(path: str, found: object, expected: str) -> FieldError:
    return FieldError(path, found, expected, "FieldValueTypeInvalid")


SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain: up to 253 letters a-z, digits, '-' and '.', "
    "starting and ending with a letter or digit"
)
LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label: up to 63 letters a-z, digits and '-', "
    "starting and ending with a letter or digit"
)
SERVICE_WORDS: Final = (
    "an RFC 1035 label: up to 63 letters a-z, digits and '-', starting with a letter "
    "and ending with a letter or digit"
)


def _name_errors(kind: Kind, metadata: Mapping[str, Any]) -> Iterator[FieldError]:
    name, prefix = metadata.get("name"), metadata.get("generateName")
    if prefix is not None and not isinstance(prefix, str):
        yield _type_error("metadata.generateName", prefix, "text")
    elif not name and not prefix:
        words = "a name, or generateName to have one made"
        yield FieldError("metadata.name", None, words, "FieldValueRequired")
    elif not name and prefix and not _is_name(kind, f"{prefix[:58]}x"):
        yield FieldError("metadata.generateName", prefix, f"the start of {_name_words(kind)}")
    if not name:
        return
    if not isinstance(name, str):
        yield _type_error("metadata.name", name, "text (put a number in quotes)")
    elif not _is_name(kind, name):
        yield FieldError("metadata.name", name, _name_words(kind))


def _is_name(kind: Kind, name: str) -> bool:
    match kind.kind:
        case "Namespace":
            return is_label(name)
        case "Service":
            return len(name) <= LONGEST_LABEL and DNS_LABEL_1035.match(name) is not None
        case _:
            return is_subdomain(name)


def _name_words(kind: Kind) -> str:
    return {"Namespace": LABEL_WORDS, "Service": SERVICE_WORDS}.get(kind.kind, SUBDOMAIN_WORDS)


def _namespace_errors(kind: Kind, namespace: object) -> Iterator[FieldError]:
    if not namespace:
        return
    if not isinstance(namespace, str):
        yield _type_error("metadata.namespace", namespace, "text")
    elif not kind.namespaced:
        words = f"none: a {kind.kind} is in no namespace"
        yield FieldError("metadata.namespace", namespace, words, "FieldValueForbidden")
    elif not is_label(namespace):
        yield FieldError("metadata.namespace", namespace, LABEL_WORDS)


def _label_errors(labels: object) -> Iterator[FieldError]:
    if not isinstance(labels, dict):
        yield _type_error("metadata.labels", labels, "a mapping")
        return
    for key, value in labels.items():
        path = f"metadata.labels[{key}]"
        if not isinstance(key, str) or not is_qualified_name(key):
            yield FieldError("metadata.labels", key, KEY_WORDS)
        elif not isinstance(value, str):
            yield _type_error(path, value, "text (put numbers and booleans in quotes)")
        elif not is_label_value(value):
            yield FieldError(path, value, VALUE_WORDS)


KEY_WORDS: Final = (
    "a key as `name` or `prefix/name`: a name of up to 63 letters, digits, '-', '_' and '.', "
    "a prefix that is a DNS subdomain"
)
VALUE_WORDS: Final = (
    "a label value: up to 63 letters, digits, '-', '_' and '.', "
    "starting and ending with a letter or digit"
)


def _annotation_errors(annotations: object) -> Iterator[FieldError]:
    if not isinstance(annotations, dict):
        yield _type_error("metadata.annotations", annotations, "a mapping")
        return
    size = 0
    for key, value in annotations.items():
        if not isinstance(key, str) or not is_qualified_name(key.lower()):
            yield FieldError("metadata.annotations", key, KEY_WORDS)
        elif not is_text(value):
            path = f"metadata.annotations[{key}]"
            yield _type_error(path, value, "text (put numbers and booleans in quotes)")
        else:
            size += len(key) + len(value)
    if size > MOST_ANNOTATION_BYTES:
        words = f"at most {MOST_ANNOTATION_BYTES} bytes in all"
        yield FieldError("metadata.annotations", Described(f"{size} bytes"), words)


def _finalizer_errors(finalizers: object) -> Iterator[FieldError]:
    if not isinstance(finalizers, list):
        yield _type_error("metadata.finalizers", finalizers, "a list of names")
        return
    for index, finalizer in enumerate(finalizers):
        if not isinstance(finalizer, str) or not is_qualified_name(finalizer):
            yield FieldError(f"metadata.finalizers[{index}]", finalizer, KEY_WORDS)


def _objects_errors(path: str, found: object) -> Iterator[FieldError]:
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        yield _type_error(path, found, "a list of mappings")
