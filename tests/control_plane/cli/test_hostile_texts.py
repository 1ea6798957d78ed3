"""What others wrote, or somebody pasted, never reaches a terminal as anything but printable text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane.yaml_core import parse, to_yaml
from tests.control_plane.cli.conftest import Answer
from tests.support.admin import AdminHouse, policy

# Clears the screen, sets its title, colours by one byte, ends lines in five ways, turns text around, deletes.
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\x9b31m\u2028\u2029\x85\u202e\x7f\x08[red]{}%s"
Admin = Callable[..., Answer]


def assert_printable(answer: Answer) -> None:
    for line in (answer.out + answer.err).split("\n"):
        assert line.isprintable(), line


@pytest.mark.parametrize(
    "document",
    [
        policy(HOSTILE),
        policy("p", workload=HOSTILE),
        policy("p", caller=HOSTILE),
        policy("p", http=[{"paths": [HOSTILE], "methods": [HOSTILE]}]),
        policy("p", **{HOSTILE: [HOSTILE]}),
        {**policy("p"), "kind": HOSTILE, HOSTILE: HOSTILE},
    ],
)
@pytest.mark.parametrize("command", ["apply", "lint"])
def test_a_fault_quotes_a_policy_without_its_escapes(admin: Admin, document: dict[str, Any], command: str) -> None:
    answer = admin("policy", command, "-f", "-", stdin=json.dumps(document))
    assert answer.exit != 0
    assert_printable(answer)


def test_a_fault_names_a_file_without_its_escapes(admin: Admin, tmp_path: Path) -> None:
    file = tmp_path / f"{HOSTILE.replace('/', '')}.yaml"
    for content in ("a: \x1b[2J", '? "\\e[2J"\n: b', "{"):
        file.write_text(content)
        answer = admin("policy", "apply", "-f", str(file))
        assert answer.exit == 2
        assert_printable(answer)
    assert_printable(admin("policy", "apply", "-f", str(file.with_suffix(".missing"))))


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_what_is_shown_again_is_shown_without_its_escapes(house: AdminHouse, admin: Admin, output: str) -> None:
    assert admin("policy", "apply", "-f", "-", "-m", HOSTILE, stdin=json.dumps(policy("p"))).exit == 0
    assert admin("ban", "add", "spiffe://cluster.local/ns/shop/sa/stock", "--reason", HOSTILE).exit == 0
    house.refuse(house.connect("shop/payments"), HOSTILE)
    shown = ""
    for command in (
        ["policy", "history"],
        ["policy", "history", "--diff"],
        ["policy", "get"],
        ["sidecars"],
        ["audit", "list"],
        ["ban", "list"],
    ):
        answer = admin("-o", output, *command)
        assert answer.exit == 0
        assert_printable(answer)
        shown += answer.out
    assert "owned" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["policy", HOSTILE],
        ["policy", "get", HOSTILE],
        ["policy", "delete", HOSTILE],
        ["policy", "check", "--from", HOSTILE, "--to", HOSTILE],
        ["ban", "add", HOSTILE],
        ["token", "create", "--workload", HOSTILE],
    ],
)
def test_what_was_typed_is_quoted_without_its_escapes(admin: Admin, arguments: list[str]) -> None:
    answer = admin(*arguments)
    assert answer.exit == 2
    assert answer.err
    assert_printable(answer)


@pytest.mark.parametrize("text", [HOSTILE, "\u202e", "gr\u00fc\u00dfe\u200b", "\ufeff", "\U000e0041"])
def test_yaml_escapes_what_is_not_printable_and_means_the_same(text: str) -> None:
    said = to_yaml({"a": text, text: "b"})
    assert all(line.isprintable() for line in said.split("\n"))
    assert parse(said, "x")[0][0].content == {"a": text, text: "b"}


def test_yaml_leaves_letters_of_any_language_as_they_are() -> None:
    assert to_yaml({"a": "gr\u00fc\u00dfe \u4e16\u754c"}) == "a: gr\u00fc\u00dfe \u4e16\u754c\n"
