"""A soak: a whole gateway at 70 % of its capacity while things go wrong; docs/results/soak.md.

    python study/soak.py [--minutes 20] [--seed 1] [--out docs/results]

A whole gateway (`tidegate up`, two workers), simulated servers, open-loop clients. Faults come one
after the other in a random order, each kind as often as any other. Every failed request must be
explained by one; memory has to stay flat and connections have to end.
"""

import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from threading import Event as Flag
from typing import Any

import yaml
from soaking.faults import MODEL, Event, Trouble
from soaking.report import Soak, page, plot
from soaking.watch import Sample, Watch

from tidegate.load.result import Result
from tidegate.load.sessions import Workload
from tidegate.testing.deployment import EXAMPLES, ROOT, Deployment, deployed
from tidegate.testing.traffic import Traffic
from tidegate.testing.waiting import wait_until

LOOK_S = 2.0
KEPT_S = 10.0
"""Longer than connections to endpoints are kept idle."""
SHARE = 0.7
CLIENT_S = 120.0
"""How long a client waits for its answer."""
STREAMED = Workload(model=MODEL, max_tokens=24, ignore_eos=True, system_words=100, user_words=50)
WHOLE = Workload(
    model=MODEL, max_tokens=24, ignore_eos=True, system_words=100, user_words=50, stream=False
)


def manifests() -> str:
    """Return the node example at 50/50, with quicker servers and a bound for what hangs."""
    texts = [(EXAMPLES / "node" / name).read_text() for name in ("pools.yaml", "route.yaml")]
    documents = [one for text in texts for one in yaml.safe_load_all(text)]
    rule = documents[-1]["spec"]["rules"][0]
    rule["timeouts"] = {"request": "20s", "backendRequest": "8s"}
    for backend in rule["backendRefs"]:
        backend["weight"] = 50
    return yaml.safe_dump_all([*documents, servers("llm"), servers("llm-new")])


def servers(name: str) -> dict[str, Any]:
    """Return two simulated servers."""
    simulator = {"models": [MODEL], "profile": "demo", "timeScale": 0.3}
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": 2, "simulator": simulator},
    }


@contextmanager
def load(up: Deployment, rate: float) -> Iterator[list[Traffic]]:
    """Send `rate` requests a second while the context lasts; what is under way then ends."""
    parts = ((Traffic(), 0.75 * rate, STREAMED), (Traffic(), 0.25 * rate, WHOLE))
    threads = [
        threading.Thread(target=one.run, args=(up.url, part, workload, CLIENT_S))
        for one, part, workload in parts
    ]
    for thread in threads:
        thread.start()
    try:
        for one, _, _ in parts:
            one.more(1)
        yield [one for one, _, _ in parts]
    finally:
        for one, _, _ in parts:
            one.stop()
        for thread in threads:
            thread.join()


def capacity(up: Deployment) -> float:
    """Return the requests a second that go through with nine of ten first tokens in half a second.

    Rates are tried upwards, a tenth more each time; the last one that held is the capacity.
    """
    held, rate = 0.0, 100.0
    while True:
        with load(up, rate) as loads:
            results = loads[0].more(int(6 * rate), 60)  # eight seconds of the streamed ones
        late = sorted(result.lag_s + (result.ttft_s or 0) for result in results)
        p90 = late[int(0.9 * len(late))]
        say(f"{rate:.0f}/s: nine of ten first tokens within {1000 * p90:.0f} ms")
        if p90 > 0.5:
            return held
        held, rate = rate, 1.1 * rate


def idle(watch: Watch) -> Sample:
    """Return a look at the gateway once nobody uses it."""
    wait_until(lambda: watch.look("").in_flight == 0, 60, "requests to end")
    wait_until(lambda: watch.look("").connections == 0, 60, "connections to end")
    Flag().wait(KEPT_S)
    return watch.look("")


def soak(up: Deployment, minutes: float, seed: int) -> Soak:
    """Do it."""
    found = capacity(up)
    rate = SHARE * found
    say(f"capacity {found:.0f}/s; soaking at {rate:.0f}/s for {minutes:g} minutes")
    with load(up, rate) as loads:
        loads[0].more(int(30 * rate), 120)
    before = idle(Watch(up, []))
    trouble = Trouble(up, Random(seed))
    with load(up, rate) as loads:
        watch = Watch(up, loads)
        stop = Flag()
        watching = threading.Thread(target=look, args=(watch, trouble, stop))
        watching.start()
        try:
            make(trouble, watch.began + 60 * minutes, Random(seed))
        finally:
            stop.set()
            watching.join()
    samples = list(watch.samples)
    watch.look("")
    after = idle(watch)
    losses = [result for result in watch.failed if not excused(result, trouble.events)]
    return Soak(
        minutes=minutes, capacity=found, rate=rate, requests=watch.requests,
        first_tokens=watch.first_tokens, events=trouble.events,
        failed=[result for result in watch.failed if result not in losses], losses=losses,
        samples=samples, before=before, after=after, tracebacks=up.log().count("Traceback"),
    )  # fmt: skip


def make(trouble: Trouble, until: float, rng: Random) -> None:
    """Make trouble until a time: all kinds in a random order, again and again."""
    kinds = trouble.kinds()
    while True:
        for name in rng.sample(list(kinds), len(kinds)):
            if time.perf_counter() >= until:
                return
            say(f"{until - time.perf_counter():5.0f} s to go: {name}")
            kinds[name]()
            Flag().wait(rng.uniform(1, 5))


def look(watch: Watch, trouble: Trouble, stop: Flag) -> None:
    """Look now and then until told to stop."""
    while not stop.wait(LOOK_S):
        watch.look(trouble.now)


def excused(result: Result, events: list[Event]) -> bool:
    """Whether something that was done explains a failure; it is counted there."""
    for event in events:
        if event.excuses(result):
            event.lost += 1
            return True
    return False


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Soak and write the page."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        manifest = folder / "soak.yaml"
        manifest.write_text(manifests())
        up = stack.enter_context(deployed(folder, [manifest], "--workers", "2"))
        done = soak(up, options.minutes, options.seed)
        (options.out / "soak.log").write_text(up.log()) if done.tracebacks else None
    plot(done, options.out / "soak.png")
    (options.out / "soak.md").write_text(page(done))
    for result in done.losses[:20]:
        say(f"lost: {result}")
    sys.exit(1 if done.losses else 0)


if __name__ == "__main__":
    main()
