"""What Keras's tests need of the process before a backend starts."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Data-parallel training needs more than one device to be parallel on.
_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=2".strip()

# Only now: a backend reads its settings when it is imported.
import keras  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def _seed():
    """Every test starts from the same chance, and leaves no global state of Keras behind."""
    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session(free_memory=False)
