"""Integrations: how other systems, which have contracts of their own, reach the service. Off unless switched on.

Each is a module or a package named as in `settings.INTEGRATIONS`, with a function `integration(settings)`. It is thin:
it reads a request of its system into the service's own checked fields (`inputs/`), has it answered as /v1/describe and
/v1/detect are (`api/answering.py`), and writes the answer's records in its system's form. Limits, keys, fairness,
deadlines, metrics and log are the core's.
"""

from dynrefer.service.integrations.integration import Integration, switched_on

__all__ = ["Integration", "switched_on"]
