"""PostgreSQL behind a raw TCP pair: a server that speaks only when spoken to, and a session that policy can end."""

import subprocess
from functools import partial

import pytest
import trio

from examples.demo.local_mesh import LocalMesh, wait_for
from tests.support.patience import PATIENCE
from tests.support.policies import allow
from tests.support.stock import program, start_postgresql


@pytest.mark.peers("psql", "pg_isready", "initdb", "postgres")
async def test_psql_works_and_its_session_ends_when_its_policy_is_removed(mesh: LocalMesh) -> None:
    psql, port = program("psql"), await start_postgresql(mesh)
    database = await mesh.start_sidecar("shop/database", inbound=[f"127.0.0.1:0=127.0.0.1:{port}/tcp,port=5432"])
    client = await mesh.start_sidecar("shop/ledger", outbound=["127.0.0.1:0=shop/database:5432"])
    await allow(mesh, "ledger", "database", 5432, http=False)
    host, _, outbound = client.outbound["shop/database:5432"].rpartition(":")
    command = [psql, "-h", host, "-p", outbound, "-U", "shop", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-At"]

    once = await trio.run_process([*command, "-c", "select 6 * 7"], capture_stdout=True)
    assert once.stdout == b"42\n"

    async with trio.open_nursery() as nursery:
        sleeping = [*command, "-c", "select 'open'", "-c", "select pg_sleep(60)"]
        start = partial(trio.run_process, sleeping, stdout=subprocess.PIPE, capture_stderr=True, check=False)
        session = await nursery.start(start)
        with trio.fail_after(PATIENCE):
            assert await session.stdout.receive_some() == b"open\n"
        removed = await mesh.doorward("policy", "delete", "shop/ledger-calls-database")
        assert removed.exit == 0, removed
        with trio.fail_after(PATIENCE):
            assert await session.wait() != 0
    ended = await wait_for(
        lambda: [each for each in database.records() if each["reason"] == "policy_changed"], what="the log line"
    )
    assert ended[0]["source"].endswith("/ns/shop/sa/ledger")
