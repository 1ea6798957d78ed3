"""The subcommand `redirect`: what it does, and what it says. Exit code 0: done; 1: could not; 2: wrong usage."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sidecar.loading import Fault
from sidecar.redirection import iptables
from sidecar.redirection.flags import FLAGS, read
from sidecar.redirection.rules import Redirection, install_text

EPILOG: Final = """\
examples:
  see the rules, and change nothing:
    doorward-sidecar redirect

  install them, as root with the capability NET_ADMIN and before the application starts; again changes nothing more:
    doorward-sidecar redirect --install --sidecar-uid 1337

  leave a metrics port and the cloud's metadata service alone:
    doorward-sidecar redirect --install --exclude-inbound-ports 15020,9090 \\
      --exclude-outbound-addresses 169.254.169.254/32

  take all of it away:
    doorward-sidecar redirect --remove

Values of one flag are separated by commas, or the flag is repeated. A flag replaces its default: 15020 has to be named
again where other inbound ports are excluded. Excluded connections are neither encrypted nor decided by any policy.
"""

VERSIONS: Final = {"4": (4,), "6": (6,), "both": (4, 6)}


def add_parser(commands: Any) -> None:
    """Add the subcommand to the program's own; every value stays text, so that all are judged at once."""
    parser = commands.add_parser(
        "redirect",
        help="print, install or remove the rules that send a pod's TCP through its sidecar",
        description="Print the iptables rules that send a pod's TCP through its sidecar, or install or remove them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--install", action="store_true", help="install the rules, in place of older ones")
    action.add_argument("--remove", action="store_true", help="remove the rules, and nothing else")
    parser.add_argument("--ip-version", choices=VERSIONS, default="both", help="IP versions (default both)")
    default = Redirection()
    for flag in FLAGS:
        shown = _listed(getattr(default, flag.name)) if flag.many else getattr(default, flag.name)
        meaning = f"{flag.meaning} (default {shown or 'none'})"
        parser.add_argument(flag.flag, dest=flag.name, action="append", metavar=flag.metavar, help=meaning)


def known_flags() -> list[str]:
    """Every flag of the subcommand."""
    return ["--install", "--remove", "--ip-version", *(flag.flag for flag in FLAGS)]


def execute(arguments: argparse.Namespace, faults: Sequence[Fault]) -> int:
    """Do it, and return the exit code. Raises SettingsFault, with `faults` among the others."""
    try:
        code = _execute(arguments, faults)
        sys.stdout.flush()
    except OSError as error:
        print(f"doorward-sidecar: standard output cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has to go somewhere
        return 1
    return code


def _execute(arguments: argparse.Namespace, faults: Sequence[Fault]) -> int:
    given = {flag.name: texts for flag in FLAGS if (texts := getattr(arguments, flag.name)) is not None}
    redirection = read(given, faults)
    versions = VERSIONS[arguments.ip_version]
    if not arguments.install and not arguments.remove:
        print("\n".join(_titled(version, install_text(redirection, version)) for version in versions), end="")
        return 0
    try:
        _change(redirection, versions, install=arguments.install)
    except iptables.CannotRedirect as error:
        print(f"doorward-sidecar: {error}", file=sys.stderr)
        return 1
    return 0


def _change(redirection: Redirection, asked: Sequence[int], *, install: bool) -> None:
    versions = [version for version in asked if version == 4 or iptables.has_ipv6()]
    if not versions:
        raise iptables.CannotRedirect("this kernel has no IPv6: use --ip-version 4")
    if install:
        iptables.install(redirection, versions)
        print("\n".join(_captured(redirection, versions)))
        for version in (each for each in VERSIONS["both"] if each not in asked and (each == 4 or iptables.has_ipv6())):
            print(f"left as it was: TCP over IPv{version}, captured only by rules that stand already")
    else:
        removed = iptables.remove(versions)
        print("\n".join(f"IPv{each}: {'removed' if each in removed else 'nothing to remove'}" for each in versions))
    for version in set(asked) - set(versions):
        print(f"IPv{version}: this kernel has none, so nothing of it needs to be captured")


def _captured(redirection: Redirection, versions: Sequence[int]) -> list[str]:
    """What an operator must know: what goes through the sidecar from now on, and each thing that does not."""
    spoken = " and ".join(f"IPv{version}" for version in versions)
    lines = [
        f"captured: TCP from outside the pod, {spoken}, goes to port {redirection.inbound_port}",
        f"captured: TCP to outside the pod, {spoken}, goes to port {redirection.outbound_port}",
        "not captured: connections that stay on loopback, UDP, and connections that stood before",
        f"not captured: connections of UID {redirection.sidecar_uid}, which is the sidecar's and nobody else's",
    ]
    excluded = {
        "to own ports": redirection.exclude_inbound_ports,
        "to ports elsewhere": redirection.exclude_outbound_ports,
        "to": redirection.exclude_outbound_addresses,
        "of UIDs": redirection.exclude_uids,
    }
    return lines + [f"not captured: connections {what} {_listed(each)}" for what, each in excluded.items() if each]


def _titled(version: int, text: str) -> str:
    return f"# IPv{version}, for {iptables.PROGRAMS[version]}-restore --noflush\n{text}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
