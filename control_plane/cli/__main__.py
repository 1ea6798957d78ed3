"""`python -m control_plane.cli` is the `doorward` command, for where no script was installed."""

from control_plane.cli import main

main()
