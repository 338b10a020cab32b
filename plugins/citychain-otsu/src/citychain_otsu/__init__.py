"""The plugin ``otsu``.

citychain finds its parts by these functions, each marked ``@hookimpl`` where it stands.
"""

from citychain_otsu.city import citychain_cities
from citychain_otsu.rule import citychain_dag_handlers
from citychain_otsu.step import citychain_consensus_steps
from citychain_otsu.storage import citychain_storage_backends

__all__ = [
    "citychain_cities",
    "citychain_consensus_steps",
    "citychain_dag_handlers",
    "citychain_storage_backends",
]
