# Keras's operations carry no annotations, and what is inferred of them admits None everywhere.
from typing import Any

def __getattr__(name: str) -> Any: ...
