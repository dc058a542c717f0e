"""The centroids of colour names that the measure of colours starts from: the survey of xkcd.com, folded to our names.

The survey asked 222,500 people to name colours on their screens (https://blog.xkcd.com/2010/05/03/color-survey-results/;
the list is in the public domain, CC0). matplotlib contains its 949 most frequent names with their centroids.
"""

import numpy as np
from matplotlib.colors import XKCD_COLORS, to_rgb
from numpy.typing import NDArray

from dynrefer.model.evidence.colour import COLOURS

# A name's last word decides: "dark salmon" is pink. Words that people use for two of our names (teal, turquoise) are
# missing on purpose.
_WORDS = {
    "red": "maroon crimson scarlet burgundy vermillion wine ruby tomato cherry brick carmine claret blood",
    "orange": "peach apricot tangerine pumpkin mango",
    "yellow": "gold mustard lemon sunflower canary banana butter straw maize custard dandelion saffron goldenrod",
    "green": "olive lime mint sage moss forest avocado pea chartreuse emerald grass jade kiwi leaf pine fern seafoam "
    "asparagus algae camo",
    "blue": "navy cyan azure cobalt cerulean denim royal sapphire sky",
    "purple": "violet lavender lilac plum mauve indigo eggplant aubergine heather amethyst grape mulberry",
    "pink": "magenta salmon rose fuchsia coral blush bubblegum melon",
    "brown": "rust chocolate copper terracotta bronze sienna umber mud caramel chestnut mahogany coffee cinnamon hazel "
    "mocha sepia leather dirt clay toffee cocoa poo poop shit",
    "white": "ivory eggshell",
    "gray": "grey silver charcoal slate",
    "beige": "tan sand khaki cream taupe fawn ecru stone putty wheat buff sandstone sandy",
}
_FOLDED = {word: colour for colour, words in _WORDS.items() for word in words.split()} | {
    name: name for name in COLOURS
}


def centroids() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Colours and what they are called: linear RGB (N, 3) float32 in [0, 1], and places in `COLOURS`, (N,) int64."""
    colours, names = [], []
    for label, code in XKCD_COLORS.items():
        name = _FOLDED.get(label.removeprefix("xkcd:").replace("/", " ").split(" ")[-1])
        if name is not None:
            colours.append(to_rgb(code))
            names.append(COLOURS.index(name))
    value = np.asarray(colours)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32), np.asarray(names)
