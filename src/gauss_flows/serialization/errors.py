"""The one error of this room."""


class FlowFileError(ValueError):
    """A flow that cannot be saved, or a file that cannot be loaded; the message says why."""
