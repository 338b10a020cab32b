"""``citychain top``: a server as it works, by what anybody may ask it.

`observing` asks, `frame` draws, and `showing` shows one frame after the other.
"""

__all__: list[str] = []
