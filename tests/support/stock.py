"""Stock programs as peers of the mesh: nginx, curl, wrk, psql and PostgreSQL, started for one test each."""

import os
import pwd
import shutil
import socket
from typing import NoReturn

import pytest
import trio

from examples.demo.local_mesh import LocalMesh, wait_for
from examples.demo.ports import free_port
from tests.support.patience import PATIENCE

NGINX = """
daemon off;
user root;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port};
        location / {{ root {directory}/www; }}
    }}
}}
"""


def program(name: str) -> str:
    """The path of a stock program. Without it the test is skipped with the reason, and in CI it fails."""
    places = os.pathsep.join(
        [os.environ["PATH"], "/usr/sbin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin"]
    )
    if (found := shutil.which(name, path=places)) is None:
        missing(f"{name} is not installed: `make peers` installs it")
    return found


def missing(reason: str) -> NoReturn:
    """Skip the test that is running for that reason, and in CI fail it."""
    if os.environ.get("DOORWARD_REQUIRE_PEERS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


async def accepting(port: int) -> None:
    """Return when something accepts connections on the port."""

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    await wait_for(answers, what=f"a server on port {port}")


async def start_nginx(mesh: LocalMesh) -> int:
    """nginx with one small page and one large file. Returns its port."""
    nginx, directory, port = program("nginx"), mesh.directory / "nginx", free_port()
    (directory / "www").mkdir(parents=True)
    (directory / "www" / "index.html").write_text("x" * 100)
    (directory / "www" / "large.bin").write_bytes(os.urandom(8 * 1024 * 1024))
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=port))
    mesh.start("nginx", [nginx, "-p", str(directory), "-c", str(directory / "nginx.conf")])
    await accepting(port)
    return port


async def start_postgresql(mesh: LocalMesh) -> int:
    """PostgreSQL with its data in the mesh's directory. Returns its port."""
    initdb, postgres, port = program("initdb"), program("postgres"), free_port()
    directory = mesh.directory / "postgresql"
    directory.mkdir(mode=0o700)
    as_user: list[str] = []
    if os.geteuid() == 0:  # initdb refuses root
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(directory, pwd.getpwnam("postgres").pw_uid)
        mesh.directory.chmod(0o711)
    await trio.run_process([*as_user, initdb, "-D", str(directory), "-A", "trust", "-U", "shop"], capture_stdout=True)
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={directory}", "-c", "fsync=off"]
    mesh.start("postgresql", [*as_user, postgres, "-D", str(directory), "-p", str(port), *options])
    ready = [program("pg_isready"), "--quiet", "-h", "127.0.0.1", "-p", str(port)]
    with trio.fail_after(PATIENCE):  # it listens before it takes anybody in
        while (await trio.run_process(ready, check=False)).returncode:
            await trio.sleep(0.05)
    return port
