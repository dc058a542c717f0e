"""Records the Penn Treebank tokenizer's output for caption-like texts; run as a module to record it again.

Needs Java. Texts are put together from words that are hard to split, and from what captions end with.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from dynrefer.workbench.evaluation.metrics.java import ptb_tokens

_WORDS = (
    "a man woman the dog's dogs' in front of behind red t-shirt black-and-white and/or isn't can't it's they're he'll "
    "3 10,000 3.5 5:30 5pm 1st 80's '90s U.S. p.m. Mr. St. no. \"stop\" 'go' (left) cup, table. cat; sign: Dog! what? "
    "-- - ... & 50% $5 #1 two-thirds mother-in-law's café o'clock cannot gonna hat. hat.\" \"the end\" let's Nike's "
    "James' y'all 24/7 1/2 b/w AT&T blue! eyes?! Wow!! x-ray e-mail TV's and of on with half-eaten"
)
WORDS = _WORDS.split()
WHOLE = (
    "don't can't cannot won't I'm we've they'll he'd it's gonna wanna lemme gimme",
    "U.S. Mr. Smith went to St. Louis.",
    "#1 @home *star* a+b a=b a_b [brackets] {curly} <tag>",
    "the 1990's and '90s rock 'n' roll",
    "…dots… “curly quotes” ‘single’ it’s – dash — long",
    "C'mon ain't shouldn't've couldnt 'tis 'twas ma'am 'em",
    "100lb 5'10\" tall a~b ^ | \\ back €5 £5 ½ cup 20°",
    "S&P AT&T r&b www.google.com no.5 the dog.The cat",
    "a --- b ---- c wait.... what and/or/but 4x4 -dog dog- --cat",
    "$5.00 5$ %5 .5 0.5 5. 12:30pm 4-5 years 3:2",
    "him/her's he's/she's what's-his-name self-made- cell-phone-like",
)


def main() -> None:
    """Write treebank.json beside this file."""
    rng = random.Random(3)
    texts = [
        " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 12))) + rng.choice(["", ".", " .", "!"])
        for _ in range(300)
    ]
    # A lone letter or dash before the last full stop is an initial or a smiley to the original; no caption ends so.
    texts = [text for text in texts if not text.endswith((" a.", " -.", " --.", "& ."))]
    texts = list(dict.fromkeys([*WHOLE, *WORDS, *texts]))
    recorded = dict(zip(texts, ptb_tokens(texts), strict=True))
    Path(__file__).with_name("treebank.json").write_text(
        json.dumps(recorded, indent=0, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
