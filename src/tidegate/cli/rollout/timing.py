"""How long a rollout's steps will take, and what a bad canary would cost, at today's traffic.

The judge's planner says it. What it needs of the traffic comes from recorded requests; without
them from the gateway's counters (the rate) and from what is usual (the spread of times).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx2

from tidegate.api.meta import Key
from tidegate.cli.rollout.client import Access, NoKubeconfigError
from tidegate.judge.block import Folder
from tidegate.judge.ledger import Ledger
from tidegate.judge.metrics import Settings
from tidegate.judge.planner import Shape, default_shape, shape_of
from tidegate.judge.planner import plan as planned
from tidegate.judge.record import Record
from tidegate.judge.words import tell_plan
from tidegate.process.settings import DataDir, SettingsError
from tidegate.rollout.judged import is_brisk, settings_of
from tidegate.rollout.plan import Plan, floor_of
from tidegate.scrape.prometheus import find_series, parse_labels
from tidegate.telemetry.families import REQUESTS

SAMPLE_S: Final = 10.0
TIMEOUT_S: Final = 5.0
SPAN_S: Final = 10.0


def told(plan: Plan, rate: float, recorded: Sequence[Record]) -> list[str]:
    """Return what the judge's planner says of a rollout.

    Args:
        plan: Of the rollout.
        rate: Requests a second that both sides share.
        recorded: Of today's traffic, for the spread of its times; may be empty.

    """
    if plan.advance_when == "NotWorse":
        return ["Its steps end after their time: nothing is shown (advanceWhen: NotWorse)."]
    weights = _weights(plan, rate)
    if not weights:
        return ["No step has less than 100 %: there is nothing to compare with, nothing is shown."]
    settings = settings_of(plan)
    shortest = min(each.duration_s or 0.0 for each in plan.steps if each.kind == "Analyze")
    made = planned(rate, weights, _shapes(settings, recorded), settings, least_step_s=shortest)
    lines = tell_plan(made).splitlines()
    if is_brisk(plan):
        lines.append("Its steps are a demo's, too short to be judged as in production.")
    if not recorded:
        lines.append(
            "Times are taken to spread as usual: --recorded FOLDER (`tidegate up --record FOLDER`)"
            " looks at yours."
        )
    return lines


def _weights(plan: Plan, rate: float) -> tuple[int, ...]:
    floor = floor_of(rate) if plan.by_traffic else 0
    weights = (each.weight for each in plan.steps if each.kind == "SetWeight")
    return tuple(weight for weight in weights if max(floor, 1) <= weight < 100)


def _shapes(settings: Settings, recorded: Sequence[Record]) -> Mapping[str, Shape]:
    ledger = Ledger(settings, "stable", "canary")
    if recorded:
        folder = Folder(span_s=SPAN_S, deadline_s=settings.deadline_s)
        for record in recorded:
            record.route, record.rule, record.arm = "", "", "stable"
            folder.fold(record)
        ledger.absorb(folder.take())
        ledger.advance(max(each.started_at for each in recorded) + 2 * settings.finish_s)
    shapes = {}
    for track in ledger.tracks:
        known = shape_of(track)
        # What few requests have isn't waited for: see `Track.is_rare`.
        if known is None and recorded and track.is_rare():
            continue
        shapes[track.metric.name] = known or default_shape(track.metric)
    return shapes


def rate_of(recorded: Sequence[Record]) -> float:
    """Return the requests a second of recorded traffic; 0 without any."""
    starts = [each.started_at for each in recorded]
    span_s = max(starts, default=0.0) - min(starts, default=0.0)
    return len(starts) / span_s if span_s > 0 else 0.0


class Counter:
    """The requests that a rollout's pools have had, by the gateway's metrics."""

    def __init__(self, url: str, pools: frozenset[str]) -> None:
        self._url = url
        self._pools = pools

    def read(self) -> float | None:
        """Return the count; None if the gateway doesn't say."""
        try:
            answer = httpx2.get(self._url, timeout=TIMEOUT_S)
        except (httpx2.HTTPError, OSError):
            return None
        if answer.status_code != 200:
            return None
        series = find_series(answer.content, REQUESTS.name.encode())
        return sum(
            each.value for each in series if parse_labels(each.labels).get("pool") in self._pools
        )


def counter(access: Access, plan: Plan, namespace: str) -> Counter | None:
    """Return what counts a rollout's requests; None if nothing here does.

    That is the `tidegate up` whose kubeconfig is used. An adapter has no pool of its own.
    """
    if plan.type == "Adapter":
        return None
    try:
        settings = DataDir(access.path.parent).read()
    except (NoKubeconfigError, SettingsError, OSError):
        return None
    if settings is None or not settings.metrics_port:
        return None
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    pools = frozenset(str(Key(namespace, name)) for name in (plan.stable, plan.canary))
    return Counter(f"http://{host}:{settings.metrics_port}/metrics", pools)


def recorded(paths: Sequence[Path]) -> list[Record]:
    """Return the requests of files of JSON lines, or of folders of them."""
    from tidegate.cli.judge import read_all

    return list(read_all(paths))
