"""X-AnyLabeling's remote server: the program finds, outlines and describes objects of the image that is open in it.

`offer.py` says which tasks its window has, `prediction.py` reads what it asks, `shapes.py` writes what it draws.
"""

from dynrefer.service.integrations.x_anylabeling.routes import integration

__all__ = ["integration"]
