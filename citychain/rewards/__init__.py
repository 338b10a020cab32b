"""What those who keep a city are paid: computed from its public record alone, paid once."""

__all__: list[str] = []
