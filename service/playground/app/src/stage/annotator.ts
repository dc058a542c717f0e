// Boxes and polygons are drawn and edited by Annotorious, which shows its handles only: what regions look like is drawn
// by `Overlay.tsx`, because Annotorious colours shapes with style attributes, which the page's policy forbids.
import {
  createImageAnnotator,
  type ImageAnnotation,
  type ImageAnnotator,
  type Polygon,
  type Rectangle,
  type Selection,
  ShapeType,
  UserSelectAction,
} from "@annotorious/annotorious";
import { effect, untracked } from "@preact/signals";
import { describeSoon } from "../actions";
import type { Point } from "../contract";
import { boundsOf, clamp, clampBox, type Prompt, type Region, round, type Size } from "../geometry";
import { addRegion, changeRegions, editRegion, regions } from "../history";
import { dragged, selectedKey, tool } from "../state";

// Origin is an enum of a package that Annotorious does not pass on; these are its values.
type Origin = NonNullable<Parameters<ImageAnnotator["state"]["store"]["clear"]>[0]>;
const LOCAL = "LOCAL" as Origin;
const REMOTE = "REMOTE" as Origin;
const SMALLEST_SIDE = 2; // pixels of the image; less is taken for an accidental click
const HANDLES =
  ".a9s-handle, .a9s-touch-handle, .a9s-edge-handle, .a9s-shape-handle, .a9s-polygon-midpoint, .a9s-corner-handle";

/** Put Annotorious over the image and keep it and the page's regions in step. Returns what ends that. */
export function annotate(image: HTMLImageElement, size: Size): () => void {
  const annotator = createImageAnnotator(image, { drawingEnabled: true, drawingMode: "drag" });
  const layer = annotator.element.querySelector("svg");
  if (!layer) throw new Error("Annotorious has no layer");
  layer.setAttribute("tabindex", "-1"); // the stage around it takes the keyboard
  layer.setAttribute("aria-label", "Shapes on the image");
  const handles = nameHandles(layer);
  const ends = [
    () => handles.disconnect(),
    followRegions(annotator),
    followTool(annotator),
    followUser(annotator, size),
    followPointer(annotator, layer),
  ];
  return () => {
    for (const end of ends) end();
    annotator.destroy();
  };
}

// --- from the page to Annotorious -----------------------------------------------------------------------------------

const followRegions = (annotator: ImageAnnotator): (() => void) =>
  effect(() => {
    const [next, chosen] = [regions.value, selectedKey.value];
    untracked(() => synchronise(annotator, next, chosen));
  });

const followTool = (annotator: ImageAnnotator): (() => void) =>
  effect(() => {
    const current = tool.value;
    // While corners are clicked, a click on another region is a corner too.
    annotator.setUserSelectAction(current === "polygon" ? UserSelectAction.NONE : UserSelectAction.EDIT);
    annotator.setDrawingMode(current === "polygon" ? "click" : "drag");
    const drawing = current === "box" || current === "polygon";
    if (drawing) annotator.setDrawingTool(current === "box" ? "rectangle" : "polygon");
    annotator.setDrawingEnabled(drawing);
  });

// --- from Annotorious to the page -----------------------------------------------------------------------------------

/** What the user draws, drags and clicks. A selection that a click made carries its event; only such a one counts. */
function followUser(annotator: ImageAnnotator, size: Size): () => void {
  const resync = () => synchronise(annotator, regions.peek(), selectedKey.peek());
  const { store, selection } = annotator.state;
  store.observe(
    ({ changes }) => {
      for (const made of changes.created ?? []) take(made, size);
      if (changes.created?.length) setTimeout(resync); // after the click that ended it, which selects nothing
      const moved = changes.updated?.at(-1)?.newValue;
      if (!moved) return;
      dragged.value = { key: moved.id, prompt: promptOf(moved, size) };
      if (!pressed) commitDrag(); // a corner was removed with the keyboard
    },
    { origin: LOCAL },
  );
  return selection.subscribe(({ selected, event }: Selection) => {
    if (!event) return;
    const id = selected[0]?.id;
    // A quick drag is taken for a click as well, on whatever lies below its end.
    if (id && dragged.peek() === null) selectedKey.value = id;
    setTimeout(resync);
  });
}

let pressed = false;

function commitDrag(): void {
  const moved = dragged.value;
  if (!moved) return;
  dragged.value = null;
  editRegion(moved.key, moved.prompt);
  describeSoon();
}

function followPointer(annotator: ImageAnnotator, layer: SVGSVGElement): () => void {
  // A press beside the selected shape begins the next one; Annotorious alone would only take the selection away.
  const press = (event: PointerEvent) => {
    pressed = true;
    if (event.target instanceof Element && event.target.closest(HANDLES)) return;
    if (isDrawable(selectedKey.value)) selectedKey.value = null;
    if (tool.value === "box") layer.setPointerCapture(event.pointerId);
  };
  const release = () => {
    pressed = false;
    commitDrag();
  };
  annotator.element.addEventListener("pointerdown", press, true);
  window.addEventListener("pointerup", release);
  window.addEventListener("pointercancel", release);
  return () => {
    window.removeEventListener("pointerup", release);
    window.removeEventListener("pointercancel", release);
  };
}

function take(annotation: ImageAnnotation, size: Size): void {
  const prompt = promptOf(annotation, size);
  const [left, top, right, bottom] = boundsOf(prompt);
  if (right - left < SMALLEST_SIDE || bottom - top < SMALLEST_SIDE) {
    changeRegions([...regions.value]); // brings the layer back to what is known
    return;
  }
  addRegion(prompt, annotation.id);
  selectedKey.value = annotation.id;
  describeSoon();
}

const isDrawable = (key: string | null): boolean => {
  const kind = regions.peek().find((region) => region.key === key)?.prompt.kind;
  return kind === "box" || kind === "polygon";
};

function synchronise(annotator: ImageAnnotator, next: readonly Region[], chosen: string | null): void {
  const { store } = annotator.state;
  const wanted = new Map(next.filter(({ prompt }) => shapeOf(prompt)).map((region) => [region.key, region.prompt]));
  for (const { id } of store.all()) if (!wanted.has(id)) store.deleteAnnotation(id, REMOTE);
  for (const [key, prompt] of wanted) {
    const known = store.getAnnotation(key);
    const selector = shapeOf(prompt);
    if (!selector) continue;
    if (!known) store.addAnnotation({ id: key, bodies: [], target: { annotation: key, selector } }, REMOTE);
    else if (!same(known.target.selector.geometry, selector.geometry))
      store.updateTarget({ ...known.target, selector }, REMOTE);
  }
  const current = annotator.state.selection.selected[0];
  const drawable = chosen && wanted.has(chosen) ? chosen : null;
  if (drawable === null ? current : current?.id !== drawable || !current.editable) {
    annotator.setSelected(drawable ?? undefined, true);
  }
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

function shapeOf(prompt: Prompt): Rectangle | Polygon | null {
  const [minX, minY, maxX, maxY] = boundsOf(prompt);
  const bounds = { minX, minY, maxX, maxY };
  if (prompt.kind === "box") {
    const geometry = { bounds, x: minX, y: minY, w: maxX - minX, h: maxY - minY, rot: 0 };
    return { type: ShapeType.RECTANGLE, geometry };
  }
  if (prompt.kind === "polygon") {
    return { type: ShapeType.POLYGON, geometry: { bounds, points: prompt.points.map(([x, y]) => [x, y]) } };
  }
  return null;
}

function promptOf(annotation: ImageAnnotation, size: Size): Prompt {
  const { selector } = annotation.target;
  if (selector.type === ShapeType.POLYGON) {
    const { points } = (selector as Polygon).geometry;
    const inside = ([x = 0, y = 0]: number[]): Point => [
      round(clamp(x, 0, size.width)),
      round(clamp(y, 0, size.height)),
    ];
    return { kind: "polygon", points: points.map(inside) };
  }
  const { x, y, w, h } = (selector as Rectangle).geometry;
  return { kind: "box", box: clampBox([x, y, x + w, y + h], size) };
}

/** Annotorious' handles are buttons without a name, for the mouse; the keyboard has the stage and the coordinates. */
function nameHandles(layer: SVGSVGElement): MutationObserver {
  const observer = new MutationObserver(() => {
    for (const each of layer.querySelectorAll("[role=button]:not([aria-label])")) {
      each.setAttribute("aria-label", "Handle of the region");
      each.setAttribute("tabindex", "-1");
    }
  });
  observer.observe(layer, { childList: true, subtree: true });
  return observer;
}
