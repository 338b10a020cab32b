"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, nothing of the code.
settings.register_profile("citychain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("citychain")
