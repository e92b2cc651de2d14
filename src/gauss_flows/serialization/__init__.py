"""One safe file per flow."""

from gauss_flows.serialization.errors import FlowFileError as FlowFileError
from gauss_flows.serialization.files import load as load
from gauss_flows.serialization.files import load_metadata as load_metadata
from gauss_flows.serialization.files import save as save
from gauss_flows.serialization.registry import register_function as register_function
from gauss_flows.serialization.registry import register_layer as register_layer
