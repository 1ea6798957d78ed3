"""The command as a whole: help, version, exit codes, options before and after, colour, and the missing extra."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.cli.root import COMMANDS, run
from control_plane.cli.root import doorward as group

SHOP = Path(__file__).parents[3] / "examples" / "shop"
QUESTION = ("policy", "check", "--policies", str(SHOP), "--from", "shop/checkout", "--to", "shop/payments:8080")


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, as a shell starts it."""
    return subprocess.run(
        [sys.executable, "-m", "control_plane.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def every_command(prefix: tuple[str, ...] = (), node=group):
    yield prefix
    for name in getattr(node, "list_commands", lambda _: ())(None):
        yield from every_command((*prefix, name), node.get_command(None, name))


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_command_has_help_that_says_what_it_does(doorward, words):
    answer = doorward(*words, "--help")
    assert (answer.exit, answer.err) == (0, "")
    assert answer.out.startswith("Usage: doorward")
    assert len(answer.out.split("\n\n")[1].strip()) > 10


def test_help_shows_examples_and_exit_codes(doorward):
    text = doorward("--help").out
    assert "Examples:" in text
    assert "Exit codes: 0 yes, 1 no or denied, 2 usage or error." in text


def test_the_version_is_the_distributions(doorward):
    answer = doorward("--version")
    assert (answer.exit, answer.out.split()) == (0, ["doorward", "0.1.0"])


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("--nonsense",), ("policy", "nonsense"), ("-o", "xml", "sidecars")]
)
def test_a_usage_error_exits_2(doorward, arguments):
    answer = doorward(*arguments)
    assert (answer.exit, answer.out) == (2, "")
    assert "Error:" in answer.err


def test_options_are_accepted_before_and_after_and_the_later_wins(admin):
    for arguments in (
        ("-o", "json", "ban", "list"),
        ("ban", "list", "-o", "json"),
        ("ban", "-o", "json", "list"),
        ("-o", "yaml", "ban", "list", "-ojson"),
    ):
        assert admin(*arguments).json == {"bans": []}


def test_the_environment_names_the_socket_and_an_option_wins_over_it(house, doorward, monkeypatch, tmp_path):
    monkeypatch.setenv("DOORWARD_ADMIN", str(house.socket))
    assert doorward("ban", "list").exit == 0
    assert doorward("--admin", str(tmp_path / "x"), "ban", "list").exit == 2
    monkeypatch.setenv("DOORWARD_ADMIN", str(tmp_path / "x"))
    assert doorward("--admin", str(house.socket), "ban", "list").exit == 0
    assert doorward("ban", "list", "--admin", str(house.socket)).exit == 0


def test_the_state_directory_does_for_its_socket(house, doorward):
    assert doorward("ban", "list", "--admin", str(house.socket.parent)).exit == 0


def test_a_fault_of_ours_exits_2_and_never_1(doorward, monkeypatch):
    monkeypatch.setattr("control_plane.cli.deciding.answer", lambda *_: 1 / 0)
    answer = doorward(*QUESTION)
    assert answer.exit == 2
    assert "ZeroDivisionError" in answer.err


def test_an_interrupt_exits_130(doorward, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("control_plane.cli.deciding.answer", interrupted)
    assert doorward(*QUESTION).exit == 130


@pytest.mark.parametrize(
    ("redirection", "arguments", "exit_code"),
    [
        (">&-", QUESTION, 1),
        ("2>&-", QUESTION, 1),
        ("2>&-", ("--admin", "/nowhere", "sidecars"), 2),
        ("<&-", ("policy", "lint", "-"), 2),
        (">/dev/full", QUESTION, 2),
    ],
)
def test_a_closed_or_full_stream_changes_no_exit_code_to_one_that_lies(redirection, arguments, exit_code):
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "control_plane.cli", *arguments]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (exit_code, False)


@pytest.mark.parametrize("missing", ["click", "yaml", "httpx2"])
def test_without_the_extra_it_says_which_to_install(missing):
    script = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}: raise ModuleNotFoundError(f'no {{name}}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"sys.argv = ['doorward', *{list(QUESTION if missing != 'httpx2' else ('sidecars',))!r}]\n"
        "from control_plane.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'doorward[control-plane]'" in done.stderr
    assert "Traceback" not in done.stderr


def on_a_terminal(**environment: str) -> str:
    """What `policy check` writes to a terminal."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TERM"}}
    subprocess.run(
        [sys.executable, "-m", "control_plane.cli", *QUESTION],
        check=False,
        stdout=theirs,
        timeout=60,
        env={**clean, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    return text


def test_colour_is_for_terminals_whose_user_wants_it():
    assert "\x1b[31m" in on_a_terminal()
    assert "\x1b" not in on_a_terminal(NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(TERM="dumb")
    assert "\x1b" not in command(*QUESTION).stdout


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -"), ("zsh", "#compdef doorward"), ("fish", "complete ")]
)
def test_a_completion_script_is_printed(doorward, shell, mark):
    answer = doorward("completion", shell)
    assert answer.exit == 0
    assert mark in answer.out


def test_completion_offers_the_commands():
    done = command(_DOORWARD_COMPLETE="bash_complete", COMP_WORDS="doorward pol", COMP_CWORD="1")
    assert done.stdout.split() == ["plain,policy"]


def test_the_table_of_commands_names_what_exists():
    assert set(COMMANDS) == {words[0] for words in every_command() if len(words) == 1}
    assert run(["--help"]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_open_the_socket_is_told_so(house):
    script = (
        "import os, sys\n"
        "import control_plane.admin.client, control_plane.cli.sidecars, mesh.policy\n"
        "from control_plane.cli.root import run\n"
        "os.setuid(65534)  # who may not read the interpreter's files either\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    for place in (house.socket, house.socket.parent):
        done = subprocess.run(
            [sys.executable, "-c", script, "--admin", str(place), "sidecars"],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert "this user may not open the admin socket" in done.stderr
