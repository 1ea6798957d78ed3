"""`doorward control-plane run`: every setting can be said, and a real process starts, answers and ends."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane import program
from control_plane.cli import settings
from control_plane.settings import ControlPlaneSettings, HostPort

DOCS = Path(__file__).parents[3] / "docs" / "configuration" / "control-plane.md"


@pytest.fixture
def started(monkeypatch):
    """The settings with which the program would have been started."""
    found: list[ControlPlaneSettings] = []

    async def run(chosen):
        found.append(chosen)

    monkeypatch.setattr(program, "run", run)
    return found


def test_no_setting_is_left_out():
    assert settings.unlisted() == set()


def test_without_options_everything_has_its_default(doorward, started):
    assert doorward("control-plane", "run", "--state", "here").exit == 0
    assert started == [ControlPlaneSettings(Path("here"))]


def test_options_reach_the_settings(doorward, started):
    options = "--listen [::1]:0 --observe off --trust-domain example.org --certificate-lifetime 10m --max-links 5"
    more = "--handshake-timeout 2s --observe-host a.example --observe-host b.example --store sqlite:////x"
    last = "--admin-listen 127.0.0.1:9443 --operator-lifetime 2h"
    cluster = "--kubernetes https://10.0.0.1:443 --kubernetes-namespace mesh --injector-listen [::]:9443"
    words = f"{options} {more} {last} {cluster}".split()
    assert doorward("control-plane", "run", "--state", "here", *words).exit == 0
    (chosen,) = started
    assert (chosen.listen, chosen.observe, chosen.trust_domain) == (HostPort("::1", 0), None, "example.org")
    assert chosen.lifetimes.certificate == timedelta(minutes=10)
    assert (chosen.admin_listen, chosen.lifetimes.operator) == (HostPort("127.0.0.1", 9443), timedelta(hours=2))
    assert (chosen.limits.links, chosen.limits.handshake_timeout) == (5, 2.0)
    kubernetes = chosen.kubernetes
    assert (kubernetes.server, kubernetes.namespace) == ("https://10.0.0.1:443", "mesh")
    assert (kubernetes.injector_listen, kubernetes.token_audience) == (HostPort("::", 9443), "doorward")
    assert (chosen.observe_hosts, chosen.store_url) == (("a.example", "b.example"), "sqlite:////x")


def test_the_environment_sets_what_no_option_does(doorward, started, monkeypatch):
    monkeypatch.setenv("DOORWARD_CONTROL_PLANE_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("DOORWARD_CONTROL_PLANE_OBSERVE", "127.0.0.1:2")
    monkeypatch.setenv("DOORWARD_CONTROL_PLANE_STATE", "there")
    assert doorward("control-plane", "run", "--listen", "127.0.0.1:3").exit == 0
    assert (started[0].listen.port, started[0].observe.port, started[0].state) == (3, 2, Path("there"))


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--listen", "nowhere", "HOST:PORT"),
        ("--listen", "off", "HOST:PORT"),
        ("--listen", "1.2.3.4:99999", "65535"),
        ("--certificate-lifetime", "soon", "10m"),
        ("--max-links", "0", "--max-links"),
        ("--ca-key", "key.pem", "both"),
        ("--kubernetes", "http://10.0.0.1:443", "https://HOST:PORT"),
        ("--kubernetes", "https://10.0.0.1:443/api", "https://HOST:PORT"),
        ("--kubernetes", "https://me@10.0.0.1:443", "https://HOST:PORT"),
        ("--kubernetes-ca", "ca.crt", "give kubernetes too"),
        ("--injector-listen", "127.0.0.1:0", "give kubernetes too"),
        ("--ca-secret", "doorward-ca", "give kubernetes too"),
    ],
)
def test_a_wrong_value_names_the_setting_and_what_it_accepts(doorward, started, option, value, says):
    answer = doorward("control-plane", "run", "--state", "here", option, value)
    assert (answer.exit, started) == (2, [])
    assert says in answer.err


def test_the_reference_has_a_line_for_every_setting():
    text = DOCS.read_text()
    for each in settings.SETTINGS:
        default = f"`{each.default}`" if each.default else ""
        assert f"| `{each.option}` | {default} | {each.meaning} |" in text


class Process:
    """A control plane as a shell starts it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.state = directory / "state"
        self.process = subprocess.Popen(
            [*self.command("control-plane", "run", "--state", str(self.state)), "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "control_plane.cli", *arguments]

    def wait_until_ready(self) -> None:
        end = time.monotonic() + 30
        while not (self.state / "run.json").exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "not ready"
            time.sleep(0.05)

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOORWARD_ADMIN": str(self.state)}
        command = self.command(*arguments)
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)


def test_a_control_plane_starts_answers_and_ends(short_directory):
    running = Process(short_directory, "--observe", "off")
    try:
        running.wait_until_ready()
        token = running.ask("token", "create", "--workload", "shop/checkout")
        assert token.stdout.startswith("dwt_")
        second = subprocess.run(
            Process.command("control-plane", "run", "--state", str(running.state)),
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (second.returncode, "in use by another control plane" in second.stderr) == (2, True)
    finally:
        running.process.send_signal(signal.SIGTERM)
        out, err = running.process.communicate(timeout=30)
    assert running.process.returncode == 0, err
    assert out == ""
    assert {json.loads(line)["level"] for line in err.splitlines()} == {"info"}
    assert token.stdout.strip() not in err
    away = running.ask("sidecars")
    assert (away.returncode, "there is no admin socket" in away.stderr) == (2, True)


def test_a_socket_that_cannot_be_made_ends_the_start_with_its_reason(short_directory):
    (short_directory / "precious").write_text("data")
    running = Process(short_directory, "--observe", "off", "--admin-socket", str(short_directory / "precious"))
    _, err = running.process.communicate(timeout=30)
    assert running.process.returncode == 2
    assert "exists and is no socket" in err
    assert (short_directory / "precious").read_text() == "data"
