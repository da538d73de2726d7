"""The reference page of the metrics, made from the one table that serves them."""

from collections.abc import Iterable, Iterator

from tidegate.telemetry.families import FAMILIES, Family


def metrics_page() -> str:
    """Return the page as Markdown."""
    return "\n".join(_lines(FAMILIES)) + "\n"


def _lines(families: Iterable[Family]) -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield "Served as Prometheus text on `/metrics`. Every metric also has the label `worker`:"
    yield "sum over it."
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
        yield ""
        yield f"## `{family.name}`"
        yield ""
        yield family.help
        yield ""
        yield f"- Type: {family.type}"
        yield f"- Labels: {labels}"
        if family.bounds:
            yield f"- Buckets: {', '.join(map(repr, family.bounds))}"
