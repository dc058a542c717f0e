"""Whether a request is sent again, and after how long. Nothing here sends or waits.

Every request of this service may be repeated, for none changes anything, but the one that lets another model serve,
which is sent once. So what is sent again is decided by whether it can help: a full queue (429) and a service that is
not ready (503) are tried again until the deadline, after as long as Retry-After says; a connection that fails or breaks
a few times; everything else never.
"""

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass

PATIENT = frozenset({429, 503})  # statuses that pass
BROKEN_ON_THE_WAY = frozenset({502})  # what a proxy answers where its connection to the service broke


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and with which pauses.

    connections: how many more times a request is sent whose connection failed or broke. refusals: how many more times
    one that was refused for now (429, 503) is; None: until the deadline. first_pause_s doubles from one pause to the
    next up to longest_pause_s; the server's Retry-After, in full, counts where it is longer. spread: up to this part
    of a pause is added at random, so that clients that were refused together do not come back together.
    """

    connections: int = 2
    refusals: int | None = None
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    spread: float = 0.25

    def pause_s(self, tries: int, retry_after_s: float | None, chance: float) -> float:
        """tries: how many came before. chance: from [0, 1)."""
        backoff = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(tries, 32))
        return max(backoff, retry_after_s or 0.0) * (1 + self.spread * chance)


NO_RETRIES = Retries(connections=0, refusals=0)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of the header Retry-After, which has a number or a date (RFC 9110, section 10.2.3); None without a valid
    one."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
