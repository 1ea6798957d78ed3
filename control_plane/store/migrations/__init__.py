"""How the tables came to be: one file in `versions` for each step, run by `database.migrate` when a store is opened.

A new step is a new file with the revision before it as `down_revision`, written with `alembic.op` so that it works on
SQLite and PostgreSQL alike, and the same change in `control_plane.store.schema`. There is no way down: go back by
bringing back a backup.
"""
