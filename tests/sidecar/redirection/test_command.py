"""`doorward-sidecar redirect`: what it prints, and how it ends where it cannot do what it is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.redirection import iptables
from sidecar.redirection.command import known_flags
from sidecar.redirection.rules import Redirection, install_text


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        main(["redirect", *arguments])
    return caught.value.code


def test_it_prints_the_rules_of_both_versions_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code() == 0
    said = capsys.readouterr().out
    assert "# IPv4, for iptables-restore --noflush\n" + install_text(Redirection(), 4) in said
    assert "# IPv6, for ip6tables-restore --noflush\n" + install_text(Redirection(), 6) in said


def test_the_rules_of_one_version_can_be_piped_into_its_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--ip-version", "6", "--exclude-outbound-addresses", "10.0.0.0/8,fd00::/8") == 0
    said = capsys.readouterr().out
    assert said.count("*nat") == 1
    assert "-d fd00::/8" in said
    assert "10.0.0.0" not in said


def test_every_wrong_value_is_listed_and_the_exit_code_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--inbound-port", "x", "--exclude-uids=-1", "--exclude-uid", "7", "--install") == 2
    said = capsys.readouterr().err
    assert "3 settings are wrong" in said
    assert "--exclude-uid: is no flag; did you mean --exclude-uids?" in said
    assert "--inbound-port: 'x': is no port; write a port from 1 to 65535" in said
    assert "See doorward-sidecar redirect --help." in said


def test_who_cannot_be_told_is_told_so_where_that_goes() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "sidecar.cli", "redirect"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "doorward-sidecar: standard output cannot be written: No space left on device\n"


def test_it_does_one_thing_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--install", "--remove") == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_help_names_every_flag_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    assert [flag for flag in known_flags() if flag not in said] == []


def test_the_documentation_names_every_flag_with_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "transparent.md").read_text()
    assert [flag for flag in known_flags() if f"| `{flag}` |" not in page] == []
    for name in ("inbound_port", "outbound_port", "sidecar_uid"):
        assert f"| `--{name.replace('_', '-')}` | `{getattr(Redirection(), name)}` |" in page


def test_a_missing_program_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(iptables, "SYSTEM", str(tmp_path))
    assert exit_code("--install") == 1
    assert capsys.readouterr().err == "doorward-sidecar: iptables-save is not installed: install the package iptables\n"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "iptables-save v1.8.9 (nf_tables): Could not fetch rule set: Permission denied (you must be root)",
            "NET_ADMIN",
        ),
        ("iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist", "load iptable_nat"),
        ("Fatal: something new\nin two lines", "Fatal: something new in two lines"),
        ("", "it did not say why"),
    ],
)
def test_what_a_program_says_becomes_one_line_with_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, advice: str
) -> None:
    script = tmp_path / "iptables-save"
    script.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert exit_code("--remove") == 1
    error = capsys.readouterr().err
    assert error.startswith("doorward-sidecar: iptables-save failed: ")
    assert error.count("\n") == 1
    assert advice in error


def test_a_kernel_without_ipv6_has_nothing_of_it_to_capture(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(iptables, "IPV6", tmp_path / "if_inet6")
    assert exit_code("--install", "--ip-version", "6") == 1
    assert "this kernel has no IPv6: use --ip-version 4" in capsys.readouterr().err
