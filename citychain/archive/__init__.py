"""The archive of a city: its approved rounds as objects in the fragment stores."""

__all__: list[str] = []
