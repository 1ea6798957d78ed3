"""The `doorward` command: what a person, a script or a pipeline says to the mesh.

    root        the group: global options, lazy subcommands, exit codes (0 yes, 1 no, 2 usage or error)
    session     what every command is given: the output format, and the admin socket or a context
    contexts    the files in which operators keep their contexts
    parameters  types of options that several commands read; settings: every option of `control-plane run`
    output      one value as table, JSON or YAML; enforcing waits until a change is enforced, and shows how far it is
    changing    one change of policies: sent, shown and waited for; naming: how policies are named
    and one file per noun: run, bundle, token, policy, history, deciding, inject, injection, sidecars, services, health,
    ban, operator, context, audit, completion

A command reads its options, asks the admin API (control_plane.admin.client) or works offline, and shows one plain
value. Only what a command needs is imported when it runs: `doorward policy check` must feel like `ls`.
"""

import sys

EXTRA = ("alembic", "click", "httpcore2", "httpx2", "hypercorn", "yaml", "rich", "sqlalchemy", "starlette")
"""What the extra `control-plane` installs, by import name."""


def main() -> None:
    """The entry point of the `doorward` command. Says which extra to install where it is missing."""
    try:
        from control_plane.cli.root import run

        status = run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write(
            f"doorward: the module {error.name} is missing: this installation holds the sidecar only.\n"
            "Install the control plane and its commands with:  pip install 'doorward[control-plane]'\n"
        )
        status = 2
    sys.exit(status)
