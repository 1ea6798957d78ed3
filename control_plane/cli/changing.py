"""One change of policies as the command makes it: sent, shown, and waited for where asked."""

from datetime import timedelta
from typing import Any

from control_plane.cli.enforcing import wait_until_enforced
from control_plane.cli.output import clean, echo_styled, say, styled
from control_plane.cli.session import No, Session

_COLOURS = {
    "added": "green",
    "replaced": "yellow",
    "removed": "red",
    "unchanged": "bright_black",
    "released": "yellow",
}
_LEFT_NAMED = 10


def change(session: Session, body: dict[str, Any], wait: timedelta | None, path: str = "/v1/policies") -> None:
    """Send one change, show what it did, and wait for its enforcement where asked."""
    with session.client() as client:
        answer = client.post(path, body)
        enforced = None if wait is None or answer["dry_run"] else wait_until_enforced(client, answer, wait)
    answer["enforced"] = enforced
    session.show(answer, lambda: _show_change(answer))
    if enforced is not None and enforced["on"] < enforced["of"]:
        raise No


def _show_change(answer: dict[str, Any]) -> None:
    for each in answer["changes"]:
        action = styled(f"{each['action']:<9}", _COLOURS[each["action"]])
        echo_styled(action, clean(f"{each['kind']} {each['namespace']}/{each['name']}"))
        if answer["dry_run"]:
            show_difference(each)
    if answer["left"]:
        names = ", ".join(f"{each['kind']} {each['namespace']}/{each['name']}" for each in answer["left"][:_LEFT_NAMED])
        more = f" and {len(answer['left']) - _LEFT_NAMED} more" if len(answer["left"]) > _LEFT_NAMED else ""
        say(f"Left alone, since they belong to the cluster: {names}{more}")
    for warning in answer["warnings"]:
        echo_styled(styled("warning", "yellow", bold=True, err=True), clean(warning), err=True)
    if answer["dry_run"]:
        say("Nothing was stored (--dry-run).")
    elif all(each["action"] == "unchanged" for each in answer["changes"]):
        say(f"Nothing changed; revision {answer['number']} stays.")
    else:
        say(f"Revision {answer['number']} by {answer['author']}")
    if answer["enforced"] is not None:
        _show_enforced(answer["enforced"])


def _show_enforced(enforced: dict[str, Any]) -> None:
    if not enforced["of"]:
        say("No connected sidecar is concerned.")
        return
    text = f"enforced on {enforced['on']} of {enforced['of']} sidecars after {enforced['seconds']:.2f} s"
    done = enforced["on"] == enforced["of"]
    echo_styled(styled("ok" if done else "not yet", "green" if done else "yellow", bold=True), text)
    for each in enforced["waiting"]:
        why = each["refused"]["message"] if each["refused"] else f"acknowledged {each['acknowledged']}"
        say(f"  waiting for {each['identity']} at {each['address']}: {why}")


def show_difference(change: dict[str, Any]) -> None:
    """A unified difference of the two documents as YAML."""
    import difflib

    from control_plane.yaml_core import to_yaml

    before, after = (to_yaml(each).splitlines() if each else [] for each in (change["before"], change["after"]))
    for line in list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]:
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[0], "reset")
        echo_styled(styled(f"    {line}", colour))
