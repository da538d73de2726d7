"""The HTML report, and what it is drawn from."""

from html.parser import HTMLParser
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.load.charts import Chart, Dots, Line, Stack, draw
from tidegate.load.page import page
from tidegate.load.report import summarise
from tidegate.load.result import Result
from tidegate.load.timeline import slices

VOID = {"meta", "line", "path", "circle", "rect", "i"}


class Checker(HTMLParser):
    """Complains about tags that don't match; counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        assert not any(name in ("src", "href") for name, _ in attrs), "something from elsewhere"
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def checked(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert "nan" not in html.lower().replace("tenant", "")
    return checker


def run(count: int, seed: int = 1, pools=("a", "b"), failures: float = 0.1) -> list[Result]:
    rng, results = Random(seed), []
    for n in range(count):
        failed = rng.random() < failures
        results.append(
            Result(
                n, 0, 100 + n * 0.1, status=200, error="reset" if failed else "",
                detail="<gone>", ttft_s=rng.random(), gaps_s=[rng.random() / 50] * 4,
                duration_s=1 + rng.random(), events=5, output_tokens=5, prompt_tokens=20,
                cached_tokens=10, pool=rng.choice(pools) if pools else "",
            )
        )  # fmt: skip
    return results


def test_a_page_is_whole_and_needs_nothing_from_elsewhere():
    results = run(300)
    seen = checked(page(summarise(results), results, "Load on <here>", "model"))
    assert seen.seen["svg"] == 7
    assert "Load on <here>" in seen.text
    assert "<gone>" in seen.text
    assert "Share of each pool" in seen.text


def test_without_pools_and_failures_their_parts_are_left_out():
    results = run(50, pools=(), failures=0)
    seen = checked(page(summarise(results), results, "t", "s"))
    assert seen.seen["svg"] == 5
    assert "Failures" not in seen.text


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_page_of_next_to_nothing_is_one_too(count):
    results = run(count, failures=0)
    checked(page(summarise(results), results, "t", "s"))


def test_a_page_of_failures_alone_is_one_too():
    results = [Result(0, 0, 1.0, error="connect", detail="refused") for _ in range(5)]
    assert "refused" in checked(page(summarise(results), results, "t", "s")).text


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.001, 20), st.booleans()), min_size=1))
def test_slices_hold_every_request_once(rows):
    results = [
        Result(0, 0, at, duration_s=length, error="reset" if bad else "", events=3, pool="a",
               ttft_s=0.1)
        for at, length, bad in rows
    ]  # fmt: skip
    cut = slices(results)
    step = cut[0].at * 2
    assert sum(one.started for one in cut) * step == pytest.approx(len(results))
    assert sum(one.pools.total() for one in cut) == len(results)
    assert sum(one.errors.total() for one in cut) == sum(bad for _, _, bad in rows)
    assert cut[-1].in_flight == 0
    assert all(one.in_flight >= 0 for one in cut)


values = st.floats(0, 1e6)
points = st.lists(st.tuples(values, values), max_size=20)


@given(points, points, st.booleans())
def test_any_points_can_be_drawn(line, dots, log):
    marks = [Line("l", sorted(line)), Dots("d", dots)]
    checked(draw(Chart(title="t", marks=marks, x_log=log)))


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=10), st.booleans())
def test_any_heights_can_be_stacked(rows, bars):
    xs = sorted(x for x, _, _ in rows)
    stack = Stack(["a", "b"], xs, [[a for _, a, _ in rows], [b for _, _, b in rows]], bars=bars)
    checked(draw(Chart(title="t", marks=[stack])))
