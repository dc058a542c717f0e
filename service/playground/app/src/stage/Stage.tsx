// The image with everything on it: Annotorious for boxes and polygons, a layer of ours for points and scribbles.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Point } from "../contract";
import { doubtOf, hoveredSpan, pointAt, shownSpans } from "../conversation";
import { clamp, type Size } from "../geometry";
import { busy, picture, pointSign, tool } from "../state";
import { annotate } from "./annotator";
import { Overlay } from "./Overlay";
import { beginScribble, continueScribble, crosshair, drawing, endScribble, putPoint, stageKey } from "./pointing";

const NONE: Size = { width: 0, height: 0 };

export function Stage() {
  const image = picture.value;
  const holder = useRef<HTMLDivElement>(null);
  const [shown, setShown] = useState<Size>(NONE);
  const scale = image ? shown.width / image.width : 1;

  useImage(holder, setShown);
  if (!image) return <div class="stage empty" />;
  const doubted = hoveredSpan.value ? shownSpans.value[hoveredSpan.value.index] : undefined;
  const style = { "--ratio": `${image.width / image.height}`, "--largest": `${image.width * 3}px` };
  return (
    <div
      class={`stage tool-${tool.value}`}
      style={style}
      role="application"
      aria-label={`${image.name}. Draw on the image`}
      aria-describedby="stage-help"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: an application takes the keyboard, by its role
      tabIndex={0}
      onKeyDown={(event) => {
        if (event.target instanceof Element && event.target.closest("button")) return;
        // Of a polygon whose corner was clicked, Annotorious removes that corner.
        const corner = event.currentTarget.querySelector(".a9s-handle-selected, .a9s-handle-dot.selected");
        if (corner && (event.key === "Delete" || event.key === "Backspace")) return;
        if (stageKey(event, scale)) event.preventDefault();
      }}
      onPointerDown={() => {
        crosshair.value = null;
        if (tool.value !== "scribble") drawing.value = [];
      }}
      onPointerMove={(event) => {
        if (!shownSpans.value.length || event.buttons || event.pointerType !== "mouse") return;
        const frame = event.currentTarget.getBoundingClientRect();
        pointAt([(event.clientX - frame.left) / scale, (event.clientY - frame.top) / scale]);
      }}
      onPointerLeave={() => {
        hoveredSpan.value = null;
      }}
      title={doubted ? doubtOf(doubted) : undefined}
      aria-busy={busy.value !== null}
    >
      <div class="picture" ref={holder} />
      <Overlay shown={shown} />
      {(tool.value === "points" || tool.value === "scribble") && <PointerLayer size={image} shown={shown} />}
    </div>
  );
}

/** Keep the <img>, which Annotorious wraps, out of Preact's hands, and follow its size on the screen. */
function useImage(holder: { current: HTMLDivElement | null }, setShown: (size: Size) => void): void {
  const image = picture.value;
  const url = image?.url;
  useLayoutEffect(() => {
    const parent = holder.current;
    if (!parent || !image || !url) return;
    const element = new Image();
    element.src = url;
    element.alt = image.sample?.alt ?? image.name;
    element.draggable = false;
    element.width = image.width;
    element.height = image.height;
    parent.replaceChildren(element);
    const end = annotate(element, { width: image.width, height: image.height });
    const observer = new ResizeObserver(() => {
      const { width, height } = element.getBoundingClientRect();
      setShown({ width, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      end();
      parent.replaceChildren();
    };
  }, [url]);
  useEffect(() => {
    drawing.value = [];
    crosshair.value = null;
  }, [url]);
}

function PointerLayer({ size, shown }: { size: Size; shown: Size }) {
  const scale = shown.width / size.width;
  const at = (event: PointerEvent): Point => {
    const frame = (event.currentTarget as Element).getBoundingClientRect();
    return [
      clamp((event.clientX - frame.left) / scale, 0, size.width),
      clamp((event.clientY - frame.top) / scale, 0, size.height),
    ];
  };
  const scribbling = tool.value === "scribble";
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the pointer's part of the stage, which has the keyboard's
    <div
      class="pointer-layer"
      onPointerDown={(event) => {
        if (!scribbling || event.button) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        beginScribble(at(event));
      }}
      onPointerMove={(event) => {
        if (scribbling && drawing.value.length && event.buttons) continueScribble(at(event), scale);
      }}
      onPointerUp={(event) => {
        if (scribbling) endScribble();
        else putPoint(at(event), pointSign.value !== (event.button === 2 || event.altKey), scale);
      }}
      onPointerCancel={() => {
        drawing.value = [];
      }}
      onContextMenu={(event) => event.preventDefault()}
    />
  );
}
