"""Built-in DAG handlers.

`SealedRounds` is the default and the base of a city's own rule of validity;
`LedgerRules` is the base of a handler that links differently.
"""

__all__: list[str] = []
