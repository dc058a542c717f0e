// Masks as COCO's compressed run lengths: column by column, from the top left, background first. The encoding is that
// of pycocotools' maskApi.c, `rleToString`: groups of five bits from the lowest, bit 0x20 says that another follows, and
// from the third run on, the difference to the run before the last is written.
import type { RunLengths } from "./contract";

export function runsOf(counts: string): number[] {
  const runs: number[] = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let group = 0;
    do {
      group = counts.charCodeAt(at++) - 48;
      value |= (group & 0x1f) << shift;
      shift += 5;
    } while (group & 0x20);
    if (group & 0x10) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2] ?? 0;
    runs.push(value);
  }
  return runs;
}

/** Draw a mask in one colour, scaled to the canvas. `colour`: red, green, blue, alpha, each of 255. */
export function paintMask(mask: RunLengths, image: ImageData, colour: readonly [number, number, number, number]): void {
  const [height, width] = mask.size;
  const ends: number[] = [];
  let sum = 0;
  for (const run of runsOf(mask.counts)) {
    sum += run;
    ends.push(sum);
  }
  let at = 0;
  for (let x = 0; x < image.width; x++) {
    const column = Math.floor(((x + 0.5) * width) / image.width) * height;
    while (at > 0 && (ends[at - 1] ?? 0) > column) at--;
    for (let y = 0; y < image.height; y++) {
      const pixel = column + Math.floor(((y + 0.5) * height) / image.height);
      while (at < ends.length && (ends[at] ?? 0) <= pixel) at++;
      if (at % 2 === 1) image.data.set(colour, (y * image.width + x) * 4);
    }
  }
}
