"""The demo's own promises: nothing that it started outlives it, and what it says of others is so at any moment."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from examples.demo.local_mesh import Sidecar, json_lines, open_local_mesh, wait_for, wait_until_ready
from examples.demo.ports import free_port
from tests.support.applications import Application, exchange, serving


async def test_what_is_started_while_a_sidecar_starts_ends_with_the_mesh(short_directory: Path) -> None:
    async with open_local_mesh(short_directory) as mesh:
        await mesh.start_control_plane()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mesh.start_sidecar, "shop/payments")
            await wait_for(lambda: len(mesh.processes) == 2)
            bystander = mesh.start("bystander", ["sleep", "60"])
        started = [each.popen for each in mesh.processes]
        assert isinstance(mesh.processes[1], Sidecar)
        assert mesh.processes[2] is bystander
    assert [each.poll() is not None for each in started] == [True, True, True]


async def test_closing_the_terminal_takes_the_whole_demo_down(short_directory: Path) -> None:
    demo = await trio.lowlevel.open_process(
        [sys.executable, "-m", "examples.demo", "--once"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(short_directory)},
    )
    assert demo.stdout is not None
    assert demo.stderr is not None
    await wait_for(lambda: list(short_directory.glob("*/*.token")), what="the first token")
    demo.send_signal(signal.SIGHUP)
    out, err = [b"".join([chunk async for chunk in stream]) for stream in (demo.stdout, demo.stderr)]
    assert (await demo.wait(), err) == (1, b"")
    assert "stopping" in out.decode()
    assert not list(short_directory.iterdir())  # the demo removes its directory last, when all processes have ended


def test_a_port_that_was_chosen_stays_free_for_whoever_is_told_it() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", port))  # as one that has bound itself without a choice
    for _ in ("a start", "a restart"):
        with socket.create_server(("127.0.0.1", port)):
            socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


async def test_who_lets_a_question_go_is_asked_again_until_it_is_ready(short_directory: Path) -> None:
    """As a sidecar does that stood still for longer than it gives its callers."""

    async def answer(application: Application, stream: trio.SocketStream) -> None:
        match application.connections:
            case 1:
                await stream.receive_some(1)  # what is left unread makes the end a reset
            case 2:
                await stream.receive_some()
            case _:
                await stream.receive_some()
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with open_local_mesh(short_directory) as mesh, serving(answer) as application:
        await wait_until_ready(mesh.start("sleep", ["sleep", "60"]), f"127.0.0.1:{application.port}")
    assert application.connections == 3


async def test_a_workload_whose_call_is_cut_off_answers_all_the_same(short_directory: Path) -> None:
    """As a change of policy does that comes in the middle of an answer."""

    async def cut(application: Application, stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{")

    async with open_local_mesh(short_directory) as mesh, serving(cut) as payments:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            command = [sys.executable, "-m", "examples.demo.workload", "--name", "checkout"]
            command += [f"--fd={listening.fileno()}", f"--upstream=payments=http://127.0.0.1:{payments.port}"]
            mesh.start("checkout", command, pass_fds=[listening.fileno()])
            address = f"127.0.0.1:{listening.getsockname()[1]}"
        head = (
            "POST /call/payments/charges HTTP/1.1\r\nHost: checkout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        assert (await exchange(address, head.encode())).startswith(b"HTTP/1.1 502 ")


def test_a_line_that_is_half_written_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes('{"event": "one"}\nno JSON\n{"event": "two"}\n{"event": "thr\u20ac'.encode()[:-1])
    assert json_lines(file) == [{"event": "one"}, {"event": "two"}]
    file.write_bytes(b'{"eve')
    assert json_lines(file) == []
