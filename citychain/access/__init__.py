"""Who may do what: the calls that need a role, and the tokens that grant them."""

__all__: list[str] = []
