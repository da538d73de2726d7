"""Manifests from files, folders and stdin: read as a whole, applied as a whole or not at all.

All are checked by a dry run before the first is applied, so a mistake in the last document
leaves nothing half applied. What somebody else has changed since (with kubectl, say) is left
alone: starting again must not move traffic.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tidegate.api.errors import ConflictError, InvalidError, NotFoundError, TidegateError
from tidegate.api.meta import Key
from tidegate.api.versions import kind_of
from tidegate.process.rest import RefusedError, Rest

ENDINGS: Final = (".yaml", ".yml", ".json")
MANAGER: Final = "tidegate-up"
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
                found += _parse(source, text, problems)
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
    for document in documents:
        if document not in skipped:
            answer = api.apply(document.applied, document.key, manager=MANAGER)
            warnings += [f"{document}: {text}" for text in answer.warnings]
    return warnings


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
