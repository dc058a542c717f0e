"""An image's part follows from its digest alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dynrefer.workbench.data.corrections import Correction
from dynrefer.workbench.training.corrections.split import Part, part_of, split_corrections

DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(2_000)]


def corrections(digests: list[str]) -> list[Correction]:
    return [
        Correction(f"{digest}:{place}", Path(digest), digest, (0, 0, 1, 1), None, "dog", None, None, "")
        for digest in digests
        for place in range(2)
    ]


def test_the_parts_have_their_shares() -> None:
    parts = [part_of(digest) for digest in DIGESTS]
    shares = {part: parts.count(part) / len(parts) for part in Part}
    assert abs(shares[Part.HELD_OUT] - 0.25) < 0.03
    assert abs(shares[Part.CALIBRATION] - 0.15) < 0.03
    assert abs(shares[Part.TRAINING] - 0.6) < 0.03


def test_what_was_held_out_stays_held_out_when_more_is_corrected() -> None:
    few, many = split_corrections(corrections(DIGESTS[:50])), split_corrections(corrections(DIGESTS))
    for name in ("training", "calibration", "held_out"):
        assert set(getattr(few, name)) <= set(getattr(many, name))


def test_a_larger_share_never_gives_a_held_out_image_back() -> None:
    kept = [digest for digest in DIGESTS if part_of(digest, 0.25) is Part.HELD_OUT]
    assert all(part_of(digest, 0.4) is Part.HELD_OUT for digest in kept)


def test_regions_of_one_image_are_in_one_part_and_none_is_lost() -> None:
    every = corrections(DIGESTS[:200])
    split = split_corrections(every)
    parts = [{each.digest for each in some} for some in (split.training, split.calibration, split.held_out)]
    assert sum(map(len, parts)) == 200 and len(set.union(*parts)) == 200
    assert len(split.training) + len(split.calibration) + len(split.held_out) == len(every)
    assert split.sentence().startswith(f"training: {len(split.training)} regions of {len(parts[0])} images; ")
