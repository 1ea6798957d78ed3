"""The command line: exit codes, help, and every wrong setting in one answer."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import table
from sidecar.cli import main
from tests.support.patience import PATIENCE

REQUIRED = ["--workload", "shop/checkout", "--control-plane", "127.0.0.1:7443", "--bundle", "b", "--token-file", "t"]


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in table.ROWS:
        monkeypatch.delenv(row.variable, raising=False)
    monkeypatch.delenv("DOORWARD_CONFIG", raising=False)


def test_every_wrong_setting_is_listed_and_the_exit_code_is_two(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "sidecar.toml"
    config.write_text('[limits]\nhandshake_timeout = "soon"\n')
    monkeypatch.setenv("DOORWARD_OBSERVE", "nowhere")
    assert exit_code("run", *REQUIRED, "--config", str(config), "--inbond", "x", "--log-level", "loud") == 2
    said = capsys.readouterr().err
    assert "4 settings are wrong" in said
    assert "--inbond: is no flag; did you mean --inbound?" in said
    assert "--log-level: 'loud': is none of them; write debug, info, warning, error" in said
    assert "DOORWARD_OBSERVE: 'nowhere'" in said
    assert "`limits.handshake_timeout` in the TOML file: 'soon'" in said


@pytest.mark.parametrize("content", [None, b"= broken", b"\xff"])
def test_a_config_file_that_cannot_be_read_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None
) -> None:
    config = tmp_path / "sidecar.toml"
    if content is not None:
        config.write_bytes(content)
    assert exit_code("run", *REQUIRED, "--config", str(config)) == 2
    assert str(config) in capsys.readouterr().err


def test_help_names_every_flag_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("run", "--help") == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    for row in table.ROWS:
        assert row.flag in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out.startswith("doorward-sidecar 0.")


def test_no_command_is_wrong_usage() -> None:
    assert exit_code() == 2


def test_flags_are_not_guessed_from_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("run", *REQUIRED, "--inb", "0.0.0.0:1=127.0.0.1:2/tcp") == 2
    assert "--inb: is no flag" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_program_loads_ends_it_in_order(number: int, tmp_path: Path) -> None:
    script = (  # the first heavy import of a run is replaced by a signal
        f"import os, sys\nclass Loading:\n    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'trio': os.kill(os.getpid(), {number:d})\n"
        f"sys.meta_path.insert(0, Loading())\nfrom sidecar.cli import main\nmain(['run', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *REQUIRED], cwd=tmp_path, capture_output=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_wrong_setting_is_answered_without_loading_the_program() -> None:
    script = (
        "import sys; from sidecar.cli import main\ntry: main(['run'])\nexcept SystemExit: print('trio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"False\n"
