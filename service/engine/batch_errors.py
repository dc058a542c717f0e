"""What the batcher says instead of an output, and what a run may say to the batcher."""


class QueueFull(Exception):
    """No room for the whole request. retry_after_s: when there should be, by the measured drain rate.

    reason: "queue_full", or "key_share" where this key alone has too much waiting.
    """

    def __init__(self, retry_after_s: float, reason: str) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.reason = reason


class BatcherClosed(Exception):
    """The batcher takes nothing any more or for now, or its thread has ended."""


class DeadlineExceeded(Exception):
    """The request's deadline passed before its regions were run."""


class Cancelled(Exception):
    """Raised by a run that was told to stop."""


class DeviceLost(Exception):
    """Raised by a run after which none can follow: the device is gone."""
