"""One module a service of the wire: it bounds the request, asks the handler, converts."""

__all__: list[str] = []
