"""Workers of one folder hear each other over real sockets."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tidegate.gateway.mesh import BEAT_S, Mesh
from tidegate.picker.config import default_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.sharing import Sharing
from tidegate.picker.state import Listed, Model
from tidegate.picker.ticket import begin
from tidegate.testing.waiting import wait_for


@dataclass
class Worker:
    sharing: Sharing
    mesh: Mesh
    pool: Pool
    endpoint: Endpoint
    changes: list[list[str]]
    refreshed: list[str]

    def begin(self, chain=()):
        return begin(self.pool, self.endpoint, Request(0.0, "m", None, chain, 4000, 10), 0.0)


@asynccontextmanager
async def worker(folder, name):
    loop = asyncio.get_running_loop()
    endpoint, pool = Endpoint("a:1"), Pool("ns/p", default_scheduler())
    changes, refreshed = [], []
    pool.set_endpoints([endpoint])
    sharing = Sharing(
        name,
        wake=lambda: mesh.wake(),
        note=lambda _, event: endpoint.note(event, 0.0),
        refresh=refreshed.extend,
    )
    mesh = Mesh(
        loop,
        folder / f"{name}.mesh",
        sharing,
        clock=loop.time,
        on_workers=lambda: changes.append(sharing.workers),
    )
    sharing.set_pools({"a:1": endpoint}, {"p": pool})
    mesh.start()
    try:
        yield Worker(sharing, mesh, pool, endpoint, changes, refreshed)
    finally:
        mesh.close()


async def test_a_request_of_one_worker_is_load_for_the_other(tmp_path):
    async with worker(tmp_path, "one") as one, worker(tmp_path, "two") as two:
        await wait_for(lambda: one.changes and two.changes)
        ticket = one.begin(chain=list(range(60)))
        await wait_for(lambda: two.endpoint.state.load == 1)
        assert two.pool.prefix.match_one(0, list(range(60))) > 4000
        ticket.ended(1.0, ok=True)
        await wait_for(lambda: two.endpoint.state.load == 0)


async def test_who_ends_is_missed_at_once_and_who_is_killed_soon(tmp_path):
    async with worker(tmp_path, "one") as one:
        async with worker(tmp_path, "two") as two:
            two.begin()
            await wait_for(lambda: one.endpoint.state.load == 1)
        await wait_for(lambda: one.endpoint.state.load == 0)
        async with worker(tmp_path, "three") as three:
            three.begin()
            await wait_for(lambda: one.endpoint.state.load == 1)
            three.mesh._beat.cancel()  # as if it were killed: it says nothing any more
            await wait_for(lambda: one.endpoint.state.load == 0)
            assert one.sharing.workers == ["one"]


async def test_a_socket_that_was_left_behind_hurts_nobody(tmp_path):
    async with worker(tmp_path, "dead") as dead:
        dead.mesh._loop.remove_reader(dead.mesh._socket)
        async with worker(tmp_path, "one") as one, worker(tmp_path, "two") as two:
            for _ in range(300):  # more than fit into the socket that nobody reads
                one.begin().ended(0.0, ok=True)
                one.mesh._send(one.sharing.take(whole=True))
            one.begin()
            await wait_for(lambda: two.endpoint.state.load == 1)
            assert one.mesh.dropped > 0


async def test_many_prompts_are_told_in_parts(tmp_path):
    async with worker(tmp_path, "one") as one, worker(tmp_path, "two") as two:
        await wait_for(lambda: one.changes)
        chains = [list(range(n * 100, n * 100 + 60)) for n in range(200)]
        for chain in chains:
            one.begin(chain=chain)
        await wait_for(lambda: two.pool.prefix.match_one(0, chains[-1]))
        assert all(two.pool.prefix.match_one(0, chain) for chain in chains)


async def test_long_lists_of_models_are_told(tmp_path):
    async with worker(tmp_path, "one") as one, worker(tmp_path, "two") as two:
        await wait_for(lambda: one.changes)
        models = tuple(Model(id=f"adapter-{n:04}", parent="base") for n in range(1000))
        one.sharing.scraped("a:1", Listed(models))
        await wait_for(lambda: two.endpoint.state.models == models)


async def test_without_a_socket_a_worker_goes_on_alone(tmp_path):
    async with worker(tmp_path / "missing", "one") as one:
        one.begin()
        one.mesh.wake()
        assert one.endpoint.state.load == 1


@pytest.mark.parametrize("junk", [b"", b"\x00" * 100, b"{}"])
async def test_junk_in_the_socket_changes_nothing(tmp_path, junk):
    async with worker(tmp_path, "one") as one:
        one.mesh._socket.sendto(junk, str(tmp_path / "one.mesh"))
        async with worker(tmp_path, "two"):
            await wait_for(lambda: one.changes)
    assert BEAT_S < 1.0
