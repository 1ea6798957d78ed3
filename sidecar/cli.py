"""The command line `doorward-sidecar`. Exit code 0: ended in order; 1: could not start, or failed; 2: wrong usage.

Flags, help and environment come from the table of settings. Everything heavy is imported when it is needed, so that
--help and a wrong setting answer at once.
"""

import argparse
import os
import signal
import sys
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sidecar import table
from sidecar.loading import Fault, SettingsFault, closest, load
from sidecar.redirection import command as redirect
from sidecar.settings import Settings

EPILOG = """\
examples:
  guard a web application on port 8080, and let it call shop/payments through port 9001:
    doorward-sidecar run --workload shop/checkout --control-plane 127.0.0.1:7443 \\
      --bundle bundle.pem --token-file token \\
      --inbound 0.0.0.0:8443=127.0.0.1:8080/http --outbound 127.0.0.1:9001=shop/payments:8080

  the same from a file; flags and DOORWARD_… variables win over it:
    doorward-sidecar run --config sidecar.toml --log-level debug

  is it ready, and if not, why:
    curl http://127.0.0.1:15020/ready

Each flag --some-name is also the variable DOORWARD_SOME_NAME and the key some_name of the TOML file; limits stand in
its table [limits]. Several values of one variable are separated by commas or spaces.
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit."""
    # OpenSSL would read a configuration from there, which can weaken TLS behind our back.
    os.environ.pop("OPENSSL_CONF", None)
    arguments, unknown = build_parser().parse_known_args(argv)
    try:
        if arguments.command == "redirect":
            sys.exit(redirect.execute(arguments, _no_flags(unknown, redirect.known_flags())))
        settings = _settings(arguments, unknown, os.environ)
    except SettingsFault as error:
        _complain(error, arguments.command)
        sys.exit(2)
    sys.exit(_run(settings))


def build_parser() -> argparse.ArgumentParser:
    """The parser: every value stays text, since the table judges all of them at once."""
    parser = argparse.ArgumentParser(prog="doorward-sidecar", description="The Doorward proxy beside one workload.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the sidecar until SIGTERM",
        description="Run the sidecar until SIGTERM or SIGINT; it then drains and exits 0.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("--config", metavar="FILE", help="TOML file with settings (DOORWARD_CONFIG)")
    limits = run.add_argument_group(
        "limits and deadlines", "TIME is 500ms, 10s, 5m or 1h; SIZE is 65536, 64KiB or 1MiB"
    )
    for row in table.ROWS:
        default = f" (default {text})" if (text := table.default_of(row)) else ""
        place = limits if row.limit else run
        alone: dict[str, Any] = {"nargs": "?", "const": "true"} if row.switch else {}
        meaning = _escaped(row.meaning + default)
        place.add_argument(row.flag, dest=row.name, action="append", metavar=row.metavar, help=meaning, **alone)
    redirect.add_parser(commands)
    return parser


class _Version(argparse.Action):
    """--version, without looking the version up at every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"doorward-sidecar {version('doorward')}")
        parser.exit()


def _settings(arguments: argparse.Namespace, unknown: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Raises SettingsFault, with unknown flags among the faults."""
    flags = {row.name: given for row in table.ROWS if (given := getattr(arguments, row.name)) is not None}
    faults = _no_flags(unknown, [row.flag for row in table.ROWS])
    toml, fault = _read_toml(arguments.config or environ.get("DOORWARD_CONFIG"))
    if fault:
        faults.append(fault)
    try:
        settings = load(flags, environ, toml)
    except SettingsFault as error:
        raise SettingsFault([*faults, *error.faults]) from None
    if faults:
        raise SettingsFault(faults)
    return settings


def _no_flags(unknown: Sequence[str], known: Sequence[str]) -> list[Fault]:
    # A word without a dash is the value of the unknown flag before it.
    faults = [Fault(word, "is no flag" + closest(word, known)) for word in unknown if word.startswith("-")]
    return faults + [Fault(word, "is no flag; see --help") for word in unknown[:1] if not word.startswith("-")]


def _read_toml(path: str | None) -> tuple[dict[str, Any], Fault | None]:
    if not path:
        return {}, None
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # pathlib says nothing more here
            return tomllib.load(file), None
    except OSError as error:
        return {}, Fault("--config", f"cannot read {path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, Fault("--config", f"{path} is no TOML: {error}")


def _run(settings: Settings) -> int:
    _end_at_signals()
    _fill_standard_descriptors()
    import trio

    from sidecar import log
    from sidecar.program import CannotStart, run

    log.configure(settings.log_level)
    failed: list[BaseException] = []
    try:
        trio.run(run, settings)
    except* CannotStart as group:
        failed = _leaves(group)
        print("\n".join(f"doorward-sidecar: {error}" for error in failed), file=sys.stderr)
    except* Exception as group:  # noqa: BLE001  # the last wall: say what happened in the log's own form
        failed = _leaves(group)
        for error in failed:
            log.error("failed", exception=error, advice="this is a fault of Doorward: report it with this line")
    return 1 if failed else 0


def _end_at_signals() -> None:
    """While the program loads there is nothing to drain: a signal ends it in order, as it will once it runs.

    As process 1 of a container it would not even hear a signal for which it has no handler.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


def _fill_standard_descriptors() -> None:
    """Where one of 0 to 2 came closed a socket would get its number, and the logs would be written into its stream."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _complain(error: SettingsFault, command: str) -> None:
    several = len(error.faults) > 1
    print(
        f"doorward-sidecar: {len(error.faults)} settings are wrong:" if several else "doorward-sidecar:",
        file=sys.stderr,
    )
    for fault in error.faults:
        print(f"  {fault}", file=sys.stderr)
    print(f"See doorward-sidecar {command} --help.", file=sys.stderr)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")  # argparse formats help texts


if __name__ == "__main__":
    main()
