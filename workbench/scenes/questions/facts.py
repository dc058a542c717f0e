"""What is true of a drawn scene, with a margin: None where people could disagree, and then nobody asks.

Objects are given by their index. Boxes are those of whole objects, pixels of the scene's image.
"""

from __future__ import annotations

from functools import cached_property

from dynrefer.workbench.scenes.colours import colour_shares
from dynrefer.workbench.scenes.questions.names import GROUPS, POSITIONS, Group
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import Category, World

LEAST_RATIO = 1.5  # of the areas of boxes of which one is called larger
LEAST_SIDE_RATIO = 1.1  # of their longer sides
NO_COLOUR, NOT_ITS_COLOUR = 0.12, 0.3  # of its pixels, from which nobody says that an object is not of a colour
SLANT = 1.5  # how much farther two objects are apart in a direction than across it, where that is their relation
ASIDE = 0.03  # of the image's side, from which centres are clearly apart
DOUBTFUL_THIRDS = ((0.30, 0.37), (0.63, 0.70))  # a centre between these belongs to no part of the image
OPPOSITE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}
DIRECTIONS = ("left of", "right of", "above", "below")


class SceneFacts:
    """Facts of one scene."""

    def __init__(self, scene: Scene, world: World) -> None:
        self.scene = scene
        self.world = world
        self.height, self.width = scene.image.shape[:2]

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.scene.objects)

    @cached_property
    def categories(self) -> tuple[Category, ...]:
        """Of each object; a scene holds each at most once."""
        return tuple(self.world.category(each.category) for each in self.scene.objects)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of each object, its category's."""
        return tuple(each.category for each in self.scene.objects)

    def colour(self, index: int) -> str | None:
        """The colour of most of the object."""
        return self.scene.objects[index].attributes.get("color")

    def size(self, index: int) -> str | None:
        """Small, medium or large."""
        return self.scene.objects[index].attributes.get("size")

    def has_colour(self, index: int, colour: str) -> bool | None:
        """Whether the object is of this colour."""
        own = self.colour(index)
        if own == colour:
            return True
        share = self._shares[index][colour]
        return False if share < (NO_COLOUR if own is None else NOT_ITS_COLOUR) else None

    def belongs(self, index: int, group: Group) -> bool | None:
        """Whether the object is one of a broader word's."""
        name = self.names[index]
        return None if name in group.doubtful else name in group.members

    def all_of(self, group: Group) -> tuple[int, ...] | None:
        """The objects that a broader word means; None if that is not clear of every object."""
        found = [self.belongs(index, group) for index in range(len(self))]
        return None if None in found else tuple(index for index, each in enumerate(found) if each)

    def all_coloured(self, colour: str) -> tuple[int, ...] | None:
        """The objects of this colour; None if that is not clear of every object."""
        found = [self.has_colour(index, colour) for index in range(len(self))]
        return None if None in found else tuple(index for index, each in enumerate(found) if each)

    def groups_of(self, index: int) -> tuple[Group, ...]:
        """The broader words for an object."""
        return tuple(group for group in GROUPS if self.names[index] in group.members)

    def larger(self, one: int, other: int) -> bool | None:
        """Whether the first is larger in the image."""
        ratio = self._area(one) / self._area(other)
        sides = self._side(one) / self._side(other)
        if ratio >= LEAST_RATIO and sides >= LEAST_SIDE_RATIO:
            return True
        return False if ratio <= 1 / LEAST_RATIO and sides <= 1 / LEAST_SIDE_RATIO else None

    def relation(self, one: int, other: int) -> str | None:
        """Where the first is, seen from the second: the one word that fits best."""
        first = self.scene.objects[one]
        if first.relation in ("in front of", "behind"):
            if first.neighbour == other:
                return first.relation
        if self._overlap(one, other):
            return None
        fits = [relation for relation in DIRECTIONS if self._clearly(one, other, relation)]
        return fits[0] if len(fits) == 1 else None

    def related(self, one: int, other: int, relation: str) -> bool | None:
        """Whether the first is left of, ... the second. False only where it is clearly on the other side, or where
        another word fits and this one does not fit at all."""
        if relation not in DIRECTIONS:
            own = self.scene.objects[one]
            between = own.neighbour == other and own.relation in ("in front of", "behind")
            return own.relation == relation if between else None
        if self._overlap(one, other):
            return None
        if self._clearly(one, other, relation):
            return True
        across, along = self._steps(one, other, relation)
        aside = ASIDE * (self.width if relation in ("left of", "right of") else self.height)
        return False if along < -aside or (abs(along) <= aside and abs(across) > SLANT * abs(along)) else None

    def beside(self, other: int, relation: str) -> int | None:
        """The one object that is left of, ... an object, where there is exactly one and no doubt about the others."""
        found = {index: self.related(index, other, relation) for index in range(len(self)) if index != other}
        right = [index for index, each in found.items() if each]
        if len(right) != 1 or any(each is None for each in found.values()):
            return None
        return right[0]

    def position(self, index: int) -> str | None:
        """In which part of the image its middle lies, of `POSITIONS`."""
        x, y = self.centre(index)
        column, row = _third(x / self.width), _third(y / self.height)
        return None if column is None or row is None else POSITIONS[3 * row + column]

    def centre(self, index: int) -> tuple[float, float]:
        """Of its box, x and y."""
        x1, y1, x2, y2 = self.scene.objects[index].box
        return (x1 + x2) / 2, (y1 + y2) / 2

    def raster_order(self, indices: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Objects from top to bottom by the upper edges of their boxes, then from left to right."""
        given = range(len(self)) if indices is None else indices
        return tuple(
            sorted(given, key=lambda index: (self.scene.objects[index].box[1], self.scene.objects[index].box[0]))
        )

    def extreme(self, word: str) -> int | None:
        """The largest, smallest, leftmost, rightmost, topmost or lowest object, where it is clearly so."""
        everything = range(len(self))
        if word in ("largest", "smallest"):
            wanted = word == "largest"
            fits = [
                one
                for one in everything
                if all(self.larger(one, other) is wanted for other in everything if other != one)
            ]
            return fits[0] if len(fits) == 1 else None
        axis, sign = {"leftmost": (0, 1), "rightmost": (0, -1), "topmost": (1, 1), "lowest": (1, -1)}[word]
        places = sorted(everything, key=lambda index: sign * self.centre(index)[axis])
        step = sign * (self.centre(places[1])[axis] - self.centre(places[0])[axis])
        return places[0] if step > 2 * ASIDE * (self.width, self.height)[axis] else None

    @cached_property
    def _shares(self) -> list[dict[str, float]]:
        return [colour_shares(self.scene.image, self.scene.visible(index)) for index in range(len(self))]

    def _area(self, index: int) -> float:
        x1, y1, x2, y2 = self.scene.objects[index].box
        return max(1.0, (x2 - x1) * (y2 - y1))

    def _side(self, index: int) -> float:
        x1, y1, x2, y2 = self.scene.objects[index].box
        return max(1.0, x2 - x1, y2 - y1)

    def _overlap(self, one: int, other: int) -> bool:
        """Whether one hides a part of the other, or their boxes share a tenth of the smaller."""
        first, second = self.scene.objects[one], self.scene.objects[other]
        if first.neighbour == other and first.relation in ("in front of", "behind"):
            return True
        a, b = first.box, second.box
        shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        return shared > 0.1 * min(self._area(one), self._area(other))

    def _steps(self, one: int, other: int, relation: str) -> tuple[float, float]:
        """From the second to the first: pixels across the relation's axis, and along it in its direction."""
        (x1, y1), (x2, y2) = self.centre(one), self.centre(other)
        dx, dy = x1 - x2, y1 - y2
        return {"left of": (dy, -dx), "right of": (dy, dx), "above": (dx, -dy), "below": (dx, dy)}[relation]

    def _clearly(self, one: int, other: int, relation: str) -> bool:
        """Whether a line along the axis separates them, or nearly, and their step is mainly along it."""
        across, along = self._steps(one, other, relation)
        a, b = self.scene.objects[one].box, self.scene.objects[other].box
        axis = 0 if relation in ("left of", "right of") else 1
        first, second = (a, b) if relation in ("left of", "above") else (b, a)
        gap = second[axis] - first[axis + 2]
        smaller = min(a[axis + 2] - a[axis], b[axis + 2] - b[axis])
        return along > SLANT * abs(across) and gap > -0.15 * smaller


def _third(value: float) -> int | None:
    for low, high in DOUBTFUL_THIRDS:
        if low < value < high:
            return None
    return 0 if value <= DOUBTFUL_THIRDS[0][0] else 2 if value >= DOUBTFUL_THIRDS[1][1] else 1
