// Regions as the page draws them, and what can be computed of their coordinates: pixels of the upright image.
import type { Box, Point } from "./contract";

export interface PointPrompt {
  x: number;
  y: number;
  positive: boolean;
}

export type Prompt =
  | { kind: "box"; box: Box }
  | { kind: "polygon"; points: readonly Point[] }
  | { kind: "scribble"; points: readonly Point[] }
  | { kind: "points"; points: readonly PointPrompt[] };

export type PromptKind = Prompt["kind"];

/** A region of the image. `key` stays the same while the region is edited. */
export interface Region {
  key: string;
  prompt: Prompt;
}

export interface Size {
  width: number;
  height: number;
}

export const round = (value: number): number => Math.round(value * 10) / 10;

export const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

export function boxOfCorners([ax, ay]: Point, [bx, by]: Point): Box {
  return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
}

export function clampBox(box: Box, { width, height }: Size): Box {
  return [
    round(clamp(box[0], 0, width)),
    round(clamp(box[1], 0, height)),
    round(clamp(box[2], 0, width)),
    round(clamp(box[3], 0, height)),
  ];
}

/** The smallest box around all points of a prompt. */
export function boundsOf(prompt: Prompt): Box {
  if (prompt.kind === "box") return prompt.box;
  const points =
    prompt.kind === "points" ? prompt.points.map(({ x, y }): Point => [x, y]) : (prompt.points as readonly Point[]);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** A prompt as the request's JSON writes it. */
export function promptFields(prompt: Prompt): Record<string, unknown> {
  switch (prompt.kind) {
    case "box":
      return { box: prompt.box };
    case "polygon":
      return { polygon: prompt.points };
    case "scribble":
      return { scribble: prompt.points };
    case "points":
      return { points: prompt.points.map(({ x, y, positive }) => (positive ? { x, y } : { x, y, positive })) };
  }
}

/** Its numbers as one line of text, which `parseCoordinates` reads back; negative points begin with a minus sign. */
export function coordinatesText(prompt: Prompt): string {
  switch (prompt.kind) {
    case "box":
      return prompt.box.join(", ");
    case "points":
      return prompt.points.map(({ x, y, positive }) => `${positive ? "+" : "−"} ${x}, ${y}`).join("; ");
    default:
      return prompt.points.map(([x, y]) => `${x}, ${y}`).join("; ");
  }
}

/** The prompt that the line of numbers says, of the given kind, or one sentence about what is wrong with it. */
export function parseCoordinates(kind: PromptKind, text: string): Prompt | string {
  const numbers = (part: string) => (part.match(/-?\d+(?:\.\d+)?/g) ?? []).map(Number);
  if (kind === "box") {
    const box = numbers(text);
    if (box.length !== 4) return `A box has four numbers: left, top, right, bottom. There are ${box.length} here.`;
    return { kind, box: box as unknown as Box };
  }
  const parts = text.split(";").filter((part) => part.trim());
  const least = { polygon: 3, scribble: 2, points: 1 }[kind];
  const pairs = parts.map(numbers);
  const wrong = pairs.findIndex((pair) => pair.length !== 2);
  if (wrong >= 0) return `Point ${wrong + 1} has ${pairs[wrong]?.length ?? 0} numbers; write "x, y; x, y".`;
  if (pairs.length < least) return `At least ${least} points are needed, written "x, y; x, y".`;
  const points = pairs as unknown as Point[];
  if (kind !== "points") return { kind, points };
  const positive = parts.map((part) => !/^\s*[-−]\s/.test(part));
  if (!positive.includes(true)) return "At least one point must lie on the object; begin it with +.";
  return { kind, points: points.map(([x, y], index) => ({ x, y, positive: positive[index] ?? true })) };
}

export const describesBox = (box: Box): string => box.map((value) => Math.round(value)).join(", ");
