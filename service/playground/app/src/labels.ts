// Where the labels of regions stand on the image: beside their box, inside the image, none over another.
import type { Box } from "./contract";
import type { Size } from "./geometry";

export interface Wanted {
  box: Box; // pixels of the stage
  width: number;
  height: number;
}

export interface Place {
  x: number;
  y: number;
}

type Rect = readonly [number, number, number, number];

const STEP = 6; // pixels between the places that are tried

/** A place per label, in the given order, or null where the image has no room left for it. */
export function placeLabels(wanted: readonly Wanted[], stage: Size): (Place | null)[] {
  const taken: Rect[] = [];
  return wanted.map((label) => {
    for (const [x, y] of candidates(label, stage)) {
      const rect: Rect = [x, y, x + label.width, y + label.height];
      if (taken.some((other) => overlap(rect, other))) continue;
      taken.push(rect);
      return { x, y };
    }
    return null;
  });
}

/** From best to worst: over the box, under it, in its corners, then along its left edge, then anywhere nearby. */
function* candidates({ box, width, height }: Wanted, stage: Size): Generator<[number, number]> {
  const [left, top, right, bottom] = box;
  const inside = (x: number, y: number): [number, number] | null =>
    width > stage.width || height > stage.height
      ? null
      : [Math.min(Math.max(x, 0), stage.width - width), Math.min(Math.max(y, 0), stage.height - height)];
  const corners: [number, number][] = [
    [left, top - height],
    [left, top],
    [right - width, top - height],
    [left, bottom],
    [right - width, bottom],
    [left, bottom - height],
    [right - width, top],
    [right - width, bottom - height],
  ];
  for (const [x, y] of corners) {
    const place = inside(x, y);
    if (place) yield place;
  }
  for (let offset = STEP; offset < stage.height; offset += STEP) {
    for (const y of [top + offset, top - height - offset]) {
      for (const x of [left, right - width, right, left - width]) {
        const place = inside(x, y);
        if (place) yield place;
      }
    }
  }
}

const overlap = (a: Rect, b: Rect): boolean => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
