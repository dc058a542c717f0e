"""What ends a batch run before all is answered."""


class BatchError(Exception):
    """An input, an output or an option cannot be used: one sentence that names it and says what to do."""


class DeviceGoneError(Exception):
    """The model's device was lost, or cannot be had: what is answered so far is in the journal."""
