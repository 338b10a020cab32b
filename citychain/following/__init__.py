"""Those who look at a city from outside: auditors and representatives."""

__all__: list[str] = []
