"""`doorward inject`: what the webhook would make of manifests, printed; needs no cluster and no control plane."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from control_plane.cli.output import clean, echo_styled, styled
from control_plane.cli.session import Session, pass_session

if TYPE_CHECKING:
    from control_plane.injector.manifests import Manifest
    from control_plane.injector.offline import Note
    from control_plane.injector.settings import InjectorSettings
    from mesh.policy import Fault

MAX_BYTES = 64 * 1024 * 1024

_FILE = click.Path(path_type=Path, allow_dash=True, dir_okay=False)


@click.command(
    epilog="""
    \b
    Examples:
      doorward inject -f shop.yaml | kubectl apply -f -
      kubectl -n shop get deployment/web -o yaml | doorward inject -f - --config injector.yaml
      kubectl -n doorward get configmap doorward-injector -o jsonpath='{.data.injector\\.yaml}' > injector.yaml

    Exit codes: 0 done, 2 error: then nothing is printed.
    """
)
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE", type=_FILE, help="- is stdin.")
@click.option("--config", metavar="FILE", type=_FILE, help="The injector's settings; without it, its defaults.")
@click.option("--namespace", "-n", metavar="NAME", default="default", show_default=True, help="Where none is named.")
@click.option("-o", "--output", type=click.Choice(("yaml", "json")), help="As what to print it.  [default: yaml]")
@pass_session
def inject(session: Session, files: Sequence[Path], config: Path | None, namespace: str, output: str | None) -> None:
    """Put the sidecar into the pods and pod templates of manifests, as the webhook does when pods are created.

    Other documents are printed as they are. Warnings, and which pods stay as they are and why, go to standard error.
    """
    from control_plane.injector.offline import inject_manifests

    settings = _settings(config)
    manifests: list[Manifest] = []
    faults: list[Fault] = []
    for file in files:
        more, wrong = _read(file)
        manifests += more
        faults += wrong
    outcome = inject_manifests(manifests, namespace, settings)
    faults += outcome.faults
    if faults:
        raise click.ClickException(_listed(faults))
    for note in outcome.notes:
        _say(note)
    _print(outcome.manifests, output or ("json" if session.output == "json" else "yaml"))


def _settings(config: Path | None) -> "InjectorSettings":
    from control_plane.injector.settings import InjectorSettings

    if config is None:
        return InjectorSettings()
    from control_plane.injector.settings_file import load_settings
    from control_plane.settings import SettingRefused

    try:
        return load_settings(config)
    except SettingRefused as error:
        raise click.ClickException(str(error)) from None


def _read(file: Path) -> "tuple[list[Manifest], list[Fault]]":
    """The documents in one file, and what is wrong with it."""
    from control_plane.injector.manifests import read_manifests
    from mesh.policy import Fault

    source = "stdin" if str(file) == "-" else str(file)
    try:
        with click.open_file(str(file), "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            return [], [Fault(source, 1, "", f"is longer than {MAX_BYTES // 1024**2} MiB")]
        manifests, faults = read_manifests(content.decode("utf-8-sig"), source)
    except OSError as error:
        return [], [Fault(source, 1, "", f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        return [], [Fault(source, 1, "", f"is not UTF-8: byte {error.start} cannot be read")]
    if not manifests and not faults:
        faults = [Fault(source, 1, "", "holds no document")]
    return manifests, faults


def _listed(faults: "Sequence[Fault]") -> str:
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the manifests; nothing is printed"
    in_order = sorted(faults, key=lambda each: (each.source, each.index))
    return "\n".join([count, *(f"  {clean(str(fault))}" for fault in in_order)])


def _say(note: "Note") -> None:
    mark = styled("warning", "yellow", bold=True, err=True) if note.warning else styled("skipped", "cyan", err=True)
    echo_styled(mark, clean(str(note)), err=True)


def _print(manifests: "Sequence[Manifest]", output: str) -> None:
    """Several documents as YAML are one file, as JSON a List."""
    if output == "json":
        contents = [each.content for each in manifests]
        whole = contents[0] if len(contents) == 1 else {"apiVersion": "v1", "kind": "List", "items": contents}
        click.echo(json.dumps(whole, indent=2))
        return
    from control_plane.yaml_core import to_yaml

    for index, each in enumerate(manifests):
        text = to_yaml(each.content) if each.text is None else each.text
        marked = text if text.startswith("---") or not index else f"---\n{text}"
        click.echo(marked.removesuffix("\n"))
