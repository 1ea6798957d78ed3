"""What was really bound is said in full, and written whole."""

import json
from pathlib import Path

import pytest

from mesh.wire import Listener
from sidecar.doors import Doors, write_run_file
from sidecar.parsing import declared_port, inbound, outbound
from sidecar.settings import Address


def test_the_real_addresses_are_told() -> None:
    doors = Doors(())
    doors.inbound.append((inbound("127.0.0.1:0=127.0.0.1:41233/http,port=8080"), 1234))
    doors.outbound.append((outbound("[::1]:0=shop/payments:8080"), 1235))
    doors.outbound.append((outbound("unix:/run/p.sock=shop/payments:8080"), 0))
    doors.observe = Address("127.0.0.1", 1)
    assert doors.addresses() == {
        "inbound": [{"bind": "127.0.0.1:1234", "port": 8080, "application": "127.0.0.1:41233", "protocol": "http"}],
        "outbound": [
            {"bind": "[::1]:1235", "destination": "shop/payments:8080"},
            {"bind": "unix:/run/p.sock", "destination": "shop/payments:8080"},
        ],
        "observe": "127.0.0.1:1",
    }


@pytest.mark.parametrize(
    ("advertise", "bind", "addresses"),
    [
        ([], "0.0.0.0:0", [None]),
        ([], "[::]:0", [None]),
        ([], "10.0.0.7:0", ["10.0.0.7"]),
        (["192.0.2.1"], "0.0.0.0:0", ["192.0.2.1"]),
        (["192.0.2.1"], "10.0.0.7:0", ["192.0.2.1"]),
        (["192.0.2.1", "2001:db8::1"], "[::]:0", ["192.0.2.1", "2001:db8::1"]),
    ],
)
def test_the_announced_address_is_advertised_or_bound_or_left_to_the_control_plane(
    advertise: list[str], bind: str, addresses: list[str | None]
) -> None:
    doors = Doors(tuple(advertise), [(inbound(f"{bind}=127.0.0.1:8080/tcp"), 8443)])
    assert doors.announced() == tuple(Listener(8443, 8080, "tcp", address) for address in addresses)


def test_a_transparent_sidecar_is_dialled_at_the_applications_own_ports() -> None:
    doors = Doors(("10.0.0.7", "fd00::7"), transparent=(15006, 15001), ports=(declared_port("8080/http"),))
    assert doors.announced() == (
        Listener(8080, 8080, "http", "10.0.0.7"),
        Listener(8080, 8080, "http", "fd00::7"),
    )
    assert doors.addresses()["transparent"] == {"inbound": 15006, "outbound": 15001, "ports": ["8080/http"]}
    assert Doors((), ports=(declared_port("5432/tcp"),)).announced() == (Listener(5432, 5432, "tcp", None),)


def test_the_run_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text("older and longer than what follows, and no JSON at all")
    write_run_file(file, {"observe": "127.0.0.1:1"})
    assert json.loads(file.read_text()) == {"observe": "127.0.0.1:1"}
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_run_file(tmp_path / "run.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
