"""The command's end of the admin socket, where that is busy."""

import socket
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

from control_plane.admin.client import Client
from tests.support.patience import PATIENCE

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"answered": 1}'


def test_where_the_queue_is_full_it_waits_for_a_place(short_directory: Path) -> None:
    answers: list[dict[str, object]] = []
    path = short_directory / "admin.sock"

    def ask() -> None:
        with suppress(Exception), Client(path) as client:
            answers.append(client.get("/v1/bundle"))

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(0)
        listening.settimeout(PATIENCE)
        others = [_caller(path) for _ in range(3)]
        asking = Thread(target=ask)
        asking.start()
        listening.accept()[0].close()  # room for its look whether anybody is there, and none for the question
        time.sleep(0.2)
        for each in others:
            each.close()
        while asking.is_alive():
            with suppress(TimeoutError, OSError):
                _answer(listening)
        asking.join()
    assert answers == [{"answered": 1}]


def _answer(listening: socket.socket) -> None:
    """Take one caller, and answer it where it asks."""
    listening.settimeout(0.1)
    with listening.accept()[0] as caller:
        caller.settimeout(PATIENCE)
        if caller.recv(65536):
            caller.sendall(ANSWER)


def _caller(path: Path) -> socket.socket:
    """Somebody who connects, or has found the queue full, and says nothing."""
    caller = socket.socket(socket.AF_UNIX)
    caller.setblocking(False)
    with suppress(BlockingIOError):
        caller.connect(str(path))
    return caller
