"""In which form a client wants objects: as they are, as a Table, or their metadata alone.

Objects are stored in one version and shown in the version that the URL names; all versions of
a kind have the same shape, so only `apiVersion` differs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidegate.api.errors import BadRequestError
from tidegate.api.scheme import Kind
from tidegate.store.tables import Include, Object, partial, render_table

Form = Literal["Object", "Table", "Metadata"]


@dataclass(frozen=True, slots=True)
class Representation:
    """How objects of one kind are shown to one client."""

    kind: Kind
    version: str
    form: Form = "Object"
    include: Include = "Metadata"

    def one(self, obj: Object, now: float, *, headers: bool = True) -> dict[str, Any]:
        """Return one object; `headers` says whether a Table begins with its columns."""
        shown = in_version(obj, self.kind, self.version)
        if self.form == "Metadata":
            return partial(shown)
        if self.form == "Table":
            version = obj.get("metadata", {}).get("resourceVersion", "")
            return self._table([shown], version, now, headers=headers)
        return shown

    def many(self, objects: Iterable[Object], version: str, now: float) -> dict[str, Any]:
        """Return a list, `version` being what a watch continues from."""
        shown = (in_version(obj, self.kind, self.version) for obj in objects)
        if self.form == "Table":
            return self._table(shown, version, now, headers=True)
        metadata = {"resourceVersion": version}
        if self.form == "Metadata":
            head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return {**head, "metadata": metadata, "items": [partial(obj) for obj in shown]}
        head = {"kind": self.kind.list_kind, "apiVersion": self.kind.api_version(self.version)}
        return {**head, "metadata": metadata, "items": list(shown)}

    def _table(
        self, objects: Iterable[Object], version: str, now: float, *, headers: bool
    ) -> dict[str, Any]:
        return render_table(
            self.kind, objects, version=version, now=now, include=self.include, headers=headers
        )


def in_version(obj: Object, kind: Kind, version: str) -> dict[str, Any]:
    """Return `obj` as an object of `version`."""
    return {**obj, "apiVersion": kind.api_version(version), "kind": kind.kind}


def negotiate(kind: Kind, version: str, accept: str, query: Mapping[str, str]) -> Representation:
    """Return the first form in `accept` that is spoken here; plain objects where none is.

    Args:
        kind: Of the objects.
        version: In which they are shown.
        accept: The header, such as `application/json;as=Table;v=v1;g=meta.k8s.io`.
        query: `includeObject` says what a Table's rows carry.

    Raises:
        BadRequestError: `includeObject` is none of Metadata, Object, None.

    """
    return Representation(kind, version, _form(accept), _include(query.get("includeObject", "")))


def _form(accept: str) -> Form:
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        if media not in ("application/json", "application/*", "*/*"):
            continue
        wanted = dict(p.split("=", 1) for p in parameters if "=" in p)
        sort = wanted.get("as", "")
        if not sort:
            return "Object"
        if wanted.get("g") == "meta.k8s.io" and wanted.get("v") == "v1":
            if sort == "Table":
                return "Table"
            if sort.startswith("PartialObjectMetadata"):
                return "Metadata"
    return "Object"


def _include(text: str) -> Include:
    match text:
        case "":
            return "Metadata"
        case "Metadata" | "Object" | "None":
            return text
        case _:
            raise BadRequestError(
                f'includeObject: found "{text}", expected Metadata, Object or None'
            )
