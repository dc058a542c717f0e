"""What a query is scored by: its names with their synonyms and excluded words, each text once; and back again.

Shapes: N = candidates, T = texts, A = asked names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dynrefer.model.finding import AskedName, Candidates, FindQuery


def texts_of(query: FindQuery) -> tuple[str, ...]:
    """Names, synonyms and excluded words in the order in which they are asked, each once."""
    found = (text for each in query.names for text in (each.name, *each.synonyms, *each.excluded))
    return tuple(dict.fromkeys(found))


def name_scores(name: AskedName, found: Candidates) -> NDArray[np.float32]:
    """The scores of a name, (N,): the best of its own and its synonyms'. NaN where none of them is known."""
    return _best(found, (name.name, *name.synonyms))


def excluded_scores(name: AskedName, found: Candidates) -> NDArray[np.float32]:
    """The best scores of the words that are not meant, (N,); 0 without any, and where they are not known."""
    import numpy as np

    return np.nan_to_num(_best(found, name.excluded), nan=0.0)


def _best(found: Candidates, texts: tuple[str, ...]) -> NDArray[np.float32]:
    import numpy as np

    columns = found.scores[:, [found.texts.index(text) for text in texts]]
    known = ~np.isnan(columns)
    best = np.where(known, columns, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(known.any(axis=1), best, np.nan).astype(np.float32)
