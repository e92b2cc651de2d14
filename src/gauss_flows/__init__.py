"""Gaussianization flows in JAX: turn data into a standard normal, and back."""

from gauss_flows._version import __version__ as __version__
from gauss_flows.bijections import *  # noqa: F403
from gauss_flows.bijections import __all__ as _bijections
from gauss_flows.flows import *  # noqa: F403
from gauss_flows.flows import __all__ as _flows

__all__ = [*_bijections, *_flows, "__version__"]  # noqa: PLE0604
