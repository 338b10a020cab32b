"""City to city: proofs that one city gives another, and how they are judged."""

__all__: list[str] = []
