"""Manifests from files, folders and stdin: read as a whole, applied as a whole or not at all.

All are checked by a dry run before the first is applied, so a mistake in the last document
leaves nothing half applied. What somebody else has changed since (with kubectl, say) is left
alone: starting again must not move traffic. Nor must naming a folder: a file in it that holds
nothing but rollouts is checked with the rest, and left to people to apply.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from tidegate.api.errors import ConflictError, InvalidError, NotFoundError, TidegateError
from tidegate.api.meta import Key
from tidegate.api.rollout import InferenceRollout
from tidegate.api.scheme import by_model
from tidegate.api.versions import kind_of
from tidegate.process.rest import RefusedError, Rest

ENDINGS: Final = (".yaml", ".yml", ".json")
MANAGER: Final = "tidegate-up"
ROLLOUT: Final = by_model(InferenceRollout).kind
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class ManifestError(TidegateError):
    """Some manifests can't be used; the text has a line for each."""

    reason = "BadManifest"


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a manifest, and where it stands."""

    source: str
    number: int
    """Counts from 1 within the source."""
    object: Mapping[str, Any]
    later: bool = False
    """It is checked, but only applied by people: it stands in a folder's file of rollouts."""

    def __str__(self) -> str:
        metadata = self.object.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
        return f"{self.source}, document {self.number} ({self.object.get('kind', '?')} {name})"

    @property
    def key(self) -> Key:
        """The object's name; in `default` where it names no namespace."""
        metadata = self.object["metadata"]
        namespace = metadata.get("namespace") or "default"
        return Key(namespace if kind_of(self.object).namespaced else "", metadata["name"])

    @property
    def applied(self) -> dict[str, Any]:
        """The object with the annotation that `kubectl apply` leaves, as kubectl writes it.

        Without it, a person's first `kubectl apply` of the same file would warn.
        """
        annotations = self.object["metadata"].get("annotations") or {}
        metadata = {**self.object["metadata"], "annotations": annotations}
        if self.key.namespace:
            metadata["namespace"] = self.key.namespace
        whole = {**self.object, "metadata": metadata}
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        # Go's encoder escapes these for HTML.
        for character in "&<>":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return {
            **whole,
            "metadata": {**metadata, "annotations": {**annotations, LAST_APPLIED: f"{text}\n"}},
        }


def read(paths: Sequence[str]) -> list[Document]:
    """Return all documents of files, of folders' files, and of stdin (`-`).

    Namespaces come first, the others as they stand.

    Raises:
        ManifestError: Something can't be read, or is no manifest of a kind that we serve.

    """
    problems: list[str] = []
    found: list[Document] = []
    for path in paths:
        try:
            for source, text in _texts(path):
                parsed = _parse(source, text, problems)
                found += _left_to_people(parsed) if Path(path).is_dir() else parsed
        except OSError as error:
            problems.append(f"{error.filename or path}: {error.strerror or error}")
        except UnicodeDecodeError:
            problems.append(f"{path}: found bytes that are not UTF-8")
    problems += [f"{document}: {text}" for document in found for text in _misfit(document)]
    if problems:
        raise ManifestError(_listed("the manifests can't be used", problems))
    return sorted(found, key=lambda document: document.object["kind"] != "Namespace")


def apply(api: Rest, documents: Sequence[Document]) -> list[str]:
    """Apply all documents, or none; return warnings for people.

    Raises:
        ManifestError: The API refuses some; nothing was applied.
        UnavailableError: The API can't be reached.

    """
    kept, problems = _rehearse(api, documents)
    if problems:
        raise ManifestError(_listed("the manifests were refused, none was applied", problems))
    warnings = [
        f"{document}: left as it is: {conflict}; `kubectl apply` it to overwrite that"
        for document, conflict in kept
    ]
    skipped = [document for document, _ in kept]
    skipped += [document for document in documents if document.later]
    later = dict.fromkeys(document.source for document in documents if document.later)
    warnings += [
        f"{source} holds rollouts and is left to you: `kubectl apply -f {source}` starts them"
        for source in later
    ]
    for document in documents:
        if document not in skipped:
            answer = api.apply(document.applied, document.key, manager=MANAGER)
            warnings += [f"{document}: {text}" for text in answer.warnings]
    return warnings


def _left_to_people(documents: list[Document]) -> list[Document]:
    """Return the documents of a folder's file, marked if all of them are rollouts."""
    if any(document.object.get("kind") != ROLLOUT for document in documents):
        return documents
    return [replace(document, later=True) for document in documents]


def _rehearse(
    api: Rest, documents: Sequence[Document]
) -> tuple[list[tuple[Document, str]], list[str]]:
    """Return the documents that others have changed since, and what is wrong with the rest."""
    made = {document.key.name for document in documents if document.object["kind"] == "Namespace"}
    kept: list[tuple[Document, str]] = []
    problems: list[str] = []
    for document in documents:
        try:
            _try(api, document, made)
        except ConflictError as conflict:
            kept.append((document, str(conflict)))
        except (RefusedError, NotFoundError) as error:
            problems.append(f"{document}: {error}")
    return kept, problems


def _try(api: Rest, document: Document, made: Iterable[str]) -> None:
    try:
        api.apply(document.applied, document.key, manager=MANAGER, dry_run=True)
    except NotFoundError:
        if document.key.namespace not in made:
            raise
        # Its namespace comes with these manifests: check it where there is one.
        metadata = {**document.object["metadata"], "namespace": "default"}
        key = Key("default", document.key.name)
        try:
            moved = {**document.object, "metadata": metadata}
            api.apply(moved, key, manager=MANAGER, dry_run=True, force=True)
        except ConflictError:
            return


def _texts(path: str) -> Iterator[tuple[str, str]]:
    if path == "-":
        yield "stdin", sys.stdin.read()
        return
    given = Path(path)
    files = [given]
    if given.is_dir():
        files = sorted(one for one in given.iterdir() if one.suffix in ENDINGS)
        if not files:
            raise FileNotFoundError(None, "found no .yaml, .yml or .json file in it", path)
    for file in files:
        yield str(file), file.read_text(encoding="utf-8")


def _parse(source: str, text: str, problems: list[str]) -> list[Document]:
    found: list[Document] = []
    try:
        for number, content in enumerate(yaml.safe_load_all(text), 1):
            if content is None:
                continue  # nothing between two `---`
            if not isinstance(content, dict):
                problems.append(f"{source}, document {number}: expected a mapping of fields")
                continue
            found += [Document(source, number, one) for one in _items(content)]
    except yaml.YAMLError as error:
        problems.append(f"{source}: not YAML: {' '.join(str(error).split())}")
    return found


def _items(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the objects of a `List`, or the object itself."""
    if content.get("kind") == "List" and isinstance(content.get("items"), list):
        return [one for one in content["items"] if isinstance(one, dict)]
    return [content]


def _misfit(document: Document) -> Iterator[str]:
    """Yield why a document can't be sent anywhere."""
    try:
        kind_of(document.object)
    except InvalidError as error:
        yield str(error)
    metadata = document.object.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        yield "metadata.name: expected a name"


def _listed(what: str, problems: Sequence[str]) -> str:
    return "\n  ".join([f"{what}:", *problems])
