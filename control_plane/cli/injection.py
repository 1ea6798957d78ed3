"""`doorward injection`: which pods are in the mesh, which should be and are not, and which would be left behind."""

from pathlib import Path
from typing import Any

import click

from control_plane.cli.output import say, table
from control_plane.cli.session import No, Session, common_options, pass_session

_HEADERS = ("NAMESPACE", "POD", "STATE", "WHY", "WHAT TO DO")
_LEFT_BEHIND = (
    "They keep their last snapshot until their certificates end, then refuse traffic. Take the label "
    "doorward.dev/inject from their namespaces and restart them first, or uninstall with --no-hooks."
)


@click.group()
@common_options
def injection() -> None:
    """See which pods have a sidecar, and why others have none."""


@injection.command(
    epilog="""
    \b
    Examples:
      doorward injection audit
      doorward injection audit -n shop --all
      doorward injection audit -o json | jq -r '.pods[] | select(.reason == "before_label") | .name'

    \b
    Exit codes: 0 every pod is as it should be, 1 some are not, 2 the answer could not be had.
    """
)
@click.option("-n", "--namespace", help="Of this namespace only.")
@click.option("--all", "every", is_flag=True, help="Show also the pods that are in the mesh as they should be.")
@common_options
@pass_session
def audit(session: Session, namespace: str | None, *, every: bool) -> None:
    """List pods that should be in the mesh and are not, and why.

    They should be where their namespace has the label doorward.dev/inject, or where they have a sidecar.
    """
    with session.client() as client:
        answer = client.get("/v1/injection", **({} if namespace is None else {"namespace": namespace}))
    looked_at = len(answer["pods"])
    missing = [each for each in answer["pods"] if each["reason"]]
    shown = answer["pods"] if every else missing
    session.show({**answer, "pods": shown, "looked_at": looked_at}, lambda: _list(shown, looked_at))
    if missing:
        raise No


def _list(pods: list[dict[str, Any]], looked_at: int) -> None:
    rows = (
        (each["namespace"], each["name"], each["reason"] or "meshed", each["detail"], each["advice"]) for each in pods
    )
    well = f"every pod that should be in the mesh is in it: {looked_at}"
    table(_HEADERS, rows, empty=well if looked_at else "there is no pod that should be in the mesh")


@injection.command(
    epilog="""
    \b
    Exit codes: 0 no pod has a sidecar, 1 some have, 2 the API server could not be asked.
    """
)
@click.option("--kubernetes", "server", default="in-cluster", show_default=True, help="Or https://HOST:PORT.")
@click.option(
    "--kubernetes-token-file", "token_file", type=click.Path(path_type=Path), help="As for control-plane run."
)
@click.option("--kubernetes-ca", "ca", type=click.Path(path_type=Path), help="As for control-plane run.")
@common_options
@pass_session
def remaining(session: Session, server: str, token_file: Path | None, ca: Path | None) -> None:
    """List pods that still have a sidecar, asking the API server itself: before Doorward is uninstalled."""
    import trio

    from control_plane.settings import KubernetesSettings, SettingRefused

    try:
        settings = KubernetesSettings(server, token_file, ca)
        if not settings.enabled:
            raise SettingRefused("kubernetes: off: write in-cluster or https://HOST:PORT")
        found = trio.run(_with_sidecars, settings)
    except SettingRefused as error:
        raise click.UsageError(str(error)) from error
    session.show({"pods": found}, lambda: _list_remaining(found))
    if found:
        pods = "1 pod still has" if len(found) == 1 else f"{len(found)} pods still have"
        say(f"Warning: {pods} a sidecar. {_LEFT_BEHIND}", err=True)
        raise No


async def _with_sidecars(settings: Any) -> list[dict[str, str]]:
    """The pods that have one and are not over. Raises SettingRefused, click.ClickException."""
    from control_plane.cluster import open_api
    from control_plane.injector.listing import list_pods
    from control_plane.kubernetes.errors import KubernetesError
    from control_plane.metrics import Metrics

    api = open_api(settings, Metrics())
    assert api is not None
    try:
        async with api:
            pods = await list_pods(api)
    except KubernetesError as error:
        raise click.ClickException(f"the API server cannot be asked for its pods: {error}") from error
    found = sorted((pod.namespace, pod.name) for pod in pods if pod.sidecar and not pod.over)
    return [{"namespace": namespace, "name": name} for namespace, name in found]


def _list_remaining(pods: list[dict[str, str]]) -> None:
    table(("NAMESPACE", "POD"), ((each["namespace"], each["name"]) for each in pods), empty="no pod has a sidecar")
