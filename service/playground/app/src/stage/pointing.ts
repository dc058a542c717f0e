// Points and scribbles by pointer, and every kind of region by keyboard: Annotorious has neither. A crosshair that the
// arrow keys move stands for the pointer.
import { signal } from "@preact/signals";
import { add, describeSoon, remove } from "../actions";
import type { Point } from "../contract";
import { boxOfCorners, clamp, clampBox, type PointPrompt, type Prompt, round, type Size } from "../geometry";
import { editRegion, redo, regions, undo } from "../history";
import { notice, picture, pointSign, selected, selectedKey, tool } from "../state";

/** Where the keyboard points, in pixels of the image; null while the mouse is used. */
export const crosshair = signal<Point | null>(null);
/** The unfinished line: of a scribble under the pointer, or what the keyboard has put down so far. */
export const drawing = signal<readonly Point[]>([]);

const NEAR = 12; // pixels of the screen: a press so near to a point takes it away
const TEXT_FIELDS = "input:not([type=radio], [type=checkbox]), textarea";
const STEP = 0.02; // of the image's longer side, per arrow key; a tenth of it with Alt, five times with Shift

// --- points ---------------------------------------------------------------------------------------------------------

/** Put a point on the object that is being pointed at, or begin another one. A press on a point takes it away. */
export function putPoint(at: Point, positive: boolean, scale: number): void {
  const current = selected.value;
  const [x, y] = [round(at[0]), round(at[1])];
  if (current?.prompt.kind !== "points") {
    add({ kind: "points", points: [{ x, y, positive: true }] });
    return;
  }
  const { points } = current.prompt;
  const near = points.findIndex((each) => Math.hypot(each.x - x, each.y - y) * scale < NEAR);
  const next: PointPrompt[] = near >= 0 ? points.filter((_, index) => index !== near) : [...points, { x, y, positive }];
  if (!next.some((each) => each.positive)) remove(current.key);
  else {
    editRegion(current.key, { kind: "points", points: next });
    describeSoon();
  }
}

// --- scribbles ------------------------------------------------------------------------------------------------------

const MOST_SCRIBBLE_POINTS = 200;

export function beginScribble(at: Point): void {
  selectedKey.value = null;
  drawing.value = [at];
}

/** `scale`: pixels of the screen per pixel of the image. Points closer than three pixels of the screen are left out. */
export function continueScribble(at: Point, scale: number): void {
  const last = drawing.value.at(-1);
  if (last && Math.hypot(last[0] - at[0], last[1] - at[1]) * scale >= 3) drawing.value = [...drawing.value, at];
}

export function endScribble(): void {
  const line = drawing.value;
  drawing.value = [];
  if (line.length < 2) return;
  const every = Math.ceil(line.length / MOST_SCRIBBLE_POINTS);
  const kept = line.filter((_, index) => index % every === 0 || index === line.length - 1);
  add({ kind: "scribble", points: kept.map(([x, y]): Point => [round(x), round(y)]) });
}

// --- the keyboard ---------------------------------------------------------------------------------------------------

const ARROWS: Record<string, Point> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Keys on the stage. Returns whether the key meant something here. */
export function stageKey(event: KeyboardEvent, scale: number): boolean {
  const image = picture.value;
  if (!image || event.ctrlKey || event.metaKey) return false;
  const arrow = ARROWS[event.key];
  if (arrow) return moveCrosshair(arrow, event, image);
  switch (event.key) {
    case "Enter":
    case " ":
      press(crosshair.value ?? centre(image), image, scale);
      return true;
    case "f":
    case "F":
      finish();
      return true;
    case "-":
      if (tool.value === "points") putPoint(crosshair.value ?? centre(image), false, scale);
      return tool.value === "points";
    case "Escape":
      drawing.value = [];
      selectedKey.value = null;
      crosshair.value = null;
      return true;
    case "Delete":
    case "Backspace":
      if (selectedKey.value) remove(selectedKey.value);
      return true;
    default:
      return false;
  }
}

const centre = (image: Size): Point => [image.width / 2, image.height / 2];

function moveCrosshair([dx, dy]: Point, event: KeyboardEvent, image: Size): boolean {
  const [x, y] = crosshair.value ?? centre(image);
  const step = Math.max(image.width, image.height) * STEP * (event.shiftKey ? 5 : 1) * (event.altKey ? 0.1 : 1);
  const at: Point = [clamp(x + dx * step, 0, image.width), clamp(y + dy * step, 0, image.height)];
  crosshair.value = at;
  const line = drawing.value;
  const [first] = line;
  if (tool.value === "scribble" && first) drawing.value = [...line, at];
  if (tool.value === "box" && first) drawing.value = boxOutline(first, at);
  notice.value = `${Math.round(at[0])}, ${Math.round(at[1])}`;
  return true;
}

const boxOutline = (a: Point, b: Point): Point[] => [a, [b[0], a[1]], b, [a[0], b[1]], a];

function press(at: Point, image: Size, scale: number): void {
  crosshair.value = at;
  const [first] = drawing.value;
  switch (tool.value) {
    case "select":
      selectAt(at);
      break;
    case "points":
      putPoint(at, pointSign.value, scale);
      break;
    case "polygon":
      selectedKey.value = null;
      drawing.value = [...drawing.value, at];
      notice.value = `Corner ${drawing.value.length}. F closes the polygon.`;
      break;
    case "scribble":
      if (first) endScribble();
      else beginScribble(at);
      break;
    case "box":
      if (first) {
        drawing.value = [];
        addBox(first, at, image);
      } else {
        selectedKey.value = null;
        drawing.value = [at];
        notice.value = "First corner. Move on, and press Enter for the opposite one.";
      }
  }
}

function addBox(first: Point, at: Point, image: Size): void {
  const box = clampBox(boxOfCorners(first, at), image);
  if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) add({ kind: "box", box });
  else notice.value = "The box has no area: move the crosshair before the second corner.";
}

/** Close the polygon that the keyboard draws; of points, let the next one begin another region. */
function finish(): void {
  const line = drawing.value;
  if (tool.value === "points") {
    selectedKey.value = null;
    notice.value = "The next point begins another region.";
  } else if (tool.value === "polygon" && line.length >= 3) {
    drawing.value = [];
    add({ kind: "polygon", points: line.map(([x, y]): Point => [round(x), round(y)]) } satisfies Prompt);
  } else if (tool.value === "polygon") notice.value = "A polygon needs three corners.";
  else if (tool.value === "scribble") endScribble();
}

function selectAt([x, y]: Point): void {
  const hit = regions.value.find(({ prompt }) => {
    if (prompt.kind !== "box") return false;
    const [left, top, right, bottom] = prompt.box;
    return x >= left && x <= right && y >= top && y <= bottom;
  });
  selectedKey.value = hit?.key ?? null;
}

/**
 * Undo and redo from anywhere but a text field, which has its own. It listens on the window as events come down, and lets
 * none of these keys pass: Annotorious has an undo of its own on the document, which knows no points and scribbles.
 */
export function historyKey(event: KeyboardEvent): void {
  if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
  const name = event.key.toLowerCase();
  const again = name === "y" || (name === "z" && event.shiftKey);
  if (!again && name !== "z") return;
  event.stopPropagation();
  if (event.target instanceof HTMLElement && event.target.closest(TEXT_FIELDS)) return;
  event.preventDefault();
  if (again) redo();
  else undo();
  describeSoon();
}
