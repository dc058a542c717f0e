"""In which language names are to be written: the request's field `language`, else the header Accept-Language.

Source of the header's grammar and of its weights: RFC 9110, sections 12.4.2 and 12.5.4.
"""

import re

from dynrefer.model import is_language

_WEIGHTED = re.compile(r"\s*([A-Za-z0-9-]{1,64}|\*)\s*(?:;\s*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?")
_MOST_RANGES = 50  # of a header that are looked at


def wanted_languages(field: str | None, header: str) -> tuple[str, ...]:
    """Languages, the preferred first; none where English will do.

    field: a valid tag, or None. header: all such headers, joined by commas; parts of it that are malformed, and those
    of weight 0, count as not there. Of equal weights the first is preferred. "*" is any language: English.
    """
    if field is not None:
        return (field,)
    found = []
    for place, part in enumerate(header.split(",")[:_MOST_RANGES]):
        match = _WEIGHTED.fullmatch(part)
        if match is None or not (match[1] == "*" or is_language(match[1])):
            continue
        weight = float(match[2] or 1)
        if weight > 0:
            found.append((-weight, place, "en" if match[1] == "*" else match[1]))
    return tuple(language for _, _, language in sorted(found))
