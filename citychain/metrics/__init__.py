"""What a server tells whoever runs it: metrics, and whether it lives and is ready."""

__all__: list[str] = []
