"""`doorward completion`: the script that makes a shell complete doorward's commands and options."""

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="""
    \b
    Examples:
      doorward completion bash > ~/.local/share/bash-completion/completions/doorward
      doorward completion zsh > "${fpath[1]}/_doorward"
      doorward completion fish > ~/.config/fish/completions/doorward.fish
    """
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    from click.shell_completion import get_completion_class

    from control_plane.cli.root import doorward

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(doorward, {}, "doorward", "_DOORWARD_COMPLETE").source())
