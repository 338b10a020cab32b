"""Objects kept for years: from the configuration to open fragment stores."""

__all__: list[str] = []
