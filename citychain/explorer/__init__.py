"""The explorer: a web page over the client that any application uses.

It asks servers as anybody may, and keeps nothing: no storage, and no secret of a city. What it
says of a transaction need not be believed, since the browser checks the receipt itself.
"""

__all__: list[str] = []
