"""What holds for all tests, and the fixtures that several folders use."""

import os

from hypothesis import HealthCheck, settings
from mongodb.fixtures import (
    fail_point,
    is_real_mongod,
    mongodb_client,
    mongodb_database,
    mongodb_proxy,
    mongodb_uri,
    on_real_mongod,
    pytest_collection_modifyitems,
    pytest_runtest_makereport,
)

__all__ = [
    "fail_point",
    "is_real_mongod",
    "mongodb_client",
    "mongodb_database",
    "mongodb_proxy",
    "mongodb_uri",
    "on_real_mongod",
    "pytest_collection_modifyitems",
    "pytest_runtest_makereport",
]

# How long an example takes says how busy the machine is, nothing of the code; nor does it that the
# first ones drawn, by chance, are too large or filtered out.
BY_CHANCE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("citychain", deadline=None, suppress_health_check=BY_CHANCE)
settings.load_profile("citychain")


def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto``: a third of the time tests wait, for processes and for what is due later."""
    return (os.cpu_count() or 1) * 3 // 2
