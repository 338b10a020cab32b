"""Several server processes on one database, a load on them, and somebody who breaks things.

`nodes` runs them, `load` writes and remembers every answer, `reading` follows what the servers say
of the ledgers, `trouble` kills, pauses and cuts off, `witness` reads the database beside them all,
`verdict` says what came of it. `make demo-cluster` and `make soak` are this for a while and for
long; CI runs it for a minute.
"""
