"""The store: everything durable that the control plane knows, each change whole or not at all.

    records     the values that go in and come out
    errors      what can be refused
    store       `Store`: one method per question or change; each method is one transaction
    schema      the tables, and the type in which times are kept
    database    opening (SQLite or PostgreSQL), migrating, transactions
    counter     the store's one row: whose it is, its number, the roots that are trusted
    audit       the hash-chained log; whatever changes writes its entry in its own transaction
    chain       what the hash of an entry covers, and what the entry tells; pure
    pruning     what of the log has no room any more, and how the chain holds across its gaps
    set_hash    a hash over those gaps, kept up as they change; pure
    changes     what a change of policies amounts to, document by document; pure
    policies    policy documents in force, and how they change
    history     the numbered revisions that led to them, pruned to their room
    retention   how much of the past is kept
    shares      how much of it is whose: where there is no room, who holds most gives way
    tokens      join tokens; the certificates issued for them, for pods, or renewed
    operators   the certificates issued for operators of the admin API
    registry    which workload can be reached where, by leases
    bans        identities and serials that are refused
    migrations  Alembic revisions, run when a store is opened

Data flows: `Store` method -> transaction (`database`) -> one of the concerns -> `audit` -> commit. Every method
blocks, so trio code calls it by `trio.to_thread.run_sync`. SQLAlchemy is imported by `store` and below, not by
`records` and `errors`, so that what only names them starts fast.
"""
