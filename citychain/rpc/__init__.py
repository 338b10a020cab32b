"""The server's gRPC side: everything between the wire and a city's handler.

`server` runs it, `services` answers the calls, `messages` converts between the wire and the
model (the client uses it too), `status` is the one table from errors to gRPC statuses.
"""

__all__: list[str] = []
