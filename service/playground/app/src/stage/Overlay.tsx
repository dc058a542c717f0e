// What is drawn over the image: masks, shapes, nested views, labels, the crosshair of the keyboard.
import { useLayoutEffect, useRef } from "preact/hooks";
import { channels, colourOf } from "../colours";
import type { Box, ExplainedView, GroundedSpan, RegionAnswer, View } from "../contract";
import { doubtOf, hoveredSpan, sameWords, shownSpans, shownTurn, shownWords } from "../conversation";
import { boundsOf, type Prompt, type Region, type Size } from "../geometry";
import { type Place, placeLabels } from "../labels";
import { paintMask } from "../run_lengths";
import { drawn, explained, freshAnswer, hoveredView, hoveredWord, picture, selectedKey } from "../state";
import { crosshair, drawing } from "./pointing";

const LABEL_FONT = "600 13px system-ui, sans-serif";
const LABEL_PADDING = 16; // pixels, both sides together
const LABEL_HEIGHT = 22;
const SHORT = 24; // characters

/** `shown`: the size of the image on the screen, in CSS pixels. */
export function Overlay({ shown }: { shown: Size }) {
  const image = picture.value;
  if (!image || !shown.width) return null;
  const scale = shown.width / image.width;
  return (
    <>
      <Masks shown={shown} />
      <svg class="overlay" viewBox={`0 0 ${shown.width} ${shown.height}`} aria-hidden="true">
        <Views scale={scale} shown={shown} />
        {drawn.value.map((region, index) => (
          <Shape key={region.key} region={region} index={index} scale={scale} />
        ))}
        <Spans scale={scale} shown={shown} />
        <Unfinished scale={scale} />
      </svg>
      <Labels scale={scale} shown={shown} />
    </>
  );
}

// --- masks --------------------------------------------------------------------------------------------------------

function Masks({ shown }: { shown: Size }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const masks = drawn.value.map((region) => freshAnswer(region)?.mask);
  const chosen = selectedKey.value;
  useLayoutEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context || !canvas.current) return;
    const [width, height] = [Math.round(shown.width), Math.round(shown.height)];
    canvas.current.width = width;
    canvas.current.height = height;
    const pixels = context.createImageData(width, height);
    masks.forEach((mask, index) => {
      const strength = drawn.value[index]?.key === chosen ? 130 : 80;
      if (mask) paintMask(mask, pixels, channels(colourOf(index), strength));
    });
    context.putImageData(pixels, 0, 0);
  }, [shown.width, shown.height, chosen, ...masks.slice(0, 64), ...Array(Math.max(0, 64 - masks.length)).fill(null)]);
  return <canvas ref={canvas} class="overlay" hidden={!masks.some(Boolean)} />;
}

// --- shapes ---------------------------------------------------------------------------------------------------------

function Shape({ region, index, scale }: { region: Region; index: number; scale: number }) {
  const chosen = region.key === selectedKey.value;
  const described = freshAnswer(region);
  const colour = colourOf(index);
  // Points show what was found for them: the mask and its box.
  const found = region.prompt.kind === "points" || region.prompt.kind === "scribble" ? described?.box : undefined;
  return (
    <g class={`shape${chosen ? " chosen" : ""}${described ? "" : " waiting"}`} data-region={index}>
      {found && <path d={boxPath(found, scale)} class="halo thin" />}
      {found && <path d={boxPath(found, scale)} class="line thin" stroke={colour} />}
      <PromptShape prompt={region.prompt} colour={colour} scale={scale} />
    </g>
  );
}

function PromptShape({ prompt, colour, scale }: { prompt: Prompt; colour: string; scale: number }) {
  if (prompt.kind === "points") {
    return (
      <>
        {prompt.points.map(({ x, y, positive }) => (
          <g key={`${x},${y}`} class={positive ? "point" : "point negative"}>
            <circle
              cx={x * scale}
              cy={y * scale}
              r={7}
              fill={positive ? colour : "#fff"}
              stroke={positive ? "#fff" : colour}
            />
            <path
              d={`M${x * scale - 4} ${y * scale}h8${positive ? `M${x * scale} ${y * scale - 4}v8` : ""}`}
              stroke={positive ? "#fff" : colour}
            />
          </g>
        ))}
      </>
    );
  }
  const path = pathOf(prompt, scale);
  return (
    <>
      <path d={path} class="halo" />
      <path d={path} class="line" stroke={colour} />
    </>
  );
}

function pathOf(prompt: Exclude<Prompt, { kind: "points" }>, scale: number): string {
  if (prompt.kind === "box") return boxPath(prompt.box, scale);
  const line = prompt.points.map(([x, y]) => `${x * scale} ${y * scale}`).join("L");
  return `M${line}${prompt.kind === "polygon" ? "Z" : ""}`;
}

const boxPath = ([left, top, right, bottom]: Box, scale: number): string =>
  `M${left * scale} ${top * scale}H${right * scale}V${bottom * scale}H${left * scale}Z`;

function Unfinished({ scale }: { scale: number }) {
  const [line, cross] = [drawing.value, crosshair.value];
  const path = line.map(([x, y]) => `${x * scale} ${y * scale}`).join("L");
  return (
    <>
      {line.length > 0 && <path d={`M${path}`} class="halo" />}
      {line.length > 0 && <path d={`M${path}`} class="line unfinished" />}
      {cross && (
        <g class="crosshair" transform={`translate(${cross[0] * scale} ${cross[1] * scale})`}>
          <path d="M-14 0H-4M4 0H14M0 -14V-4M0 4V14" class="halo" />
          <path d="M-14 0H-4M4 0H14M0 -14V-4M0 4V14" class="line" />
        </g>
      )}
    </>
  );
}

// --- views ----------------------------------------------------------------------------------------------------------

/** The views of a region, chosen first; without an explanation those of its answer. */
export function viewsOf(answer: RegionAnswer | null): { view: View | ExplainedView; chosen: boolean }[] {
  if (!answer) return [];
  const listed = answer.explanation?.views;
  if (listed) return listed.map((view) => ({ view, chosen: view.chosen }));
  const own = [answer.caption, answer.tags?.[0], answer.attributes?.[0], answer.categories?.[0]];
  const views = answer.views ?? own.flatMap((output) => output?.views ?? []);
  const byT = new Map(views.map((view) => [view.t, view]));
  return [...byT.values()].sort((a, b) => a.t - b.t).map((view) => ({ view, chosen: true }));
}

function Views({ scale, shown }: { scale: number; shown: Size }) {
  const region = explained.value;
  if (!region) return null;
  const views = viewsOf(freshAnswer(region));
  const pointed = views.find(({ view }) => view.t === hoveredView.value);
  const chosen = views.filter((each) => each.chosen && each.view.t > 0);
  return (
    <g class="views">
      {pointed && (
        <path d={`M0 0H${shown.width}V${shown.height}H0Z${boxPath(pointed.view.box, scale)}`} class="spotlight" />
      )}
      {views
        .filter((each) => !each.chosen && each !== pointed)
        .map(({ view }) => (
          <path key={view.t} d={boxPath(view.box, scale)} class="candidate" />
        ))}
      {chosen.map(({ view }, index) => (
        <g key={view.t} class={view.t === hoveredView.value ? "view pointed" : "view"} data-t={view.t}>
          <path d={boxPath(view.box, scale)} class="halo" />
          <path d={boxPath(view.box, scale)} class="line" />
          <TLabel view={view} index={index} right={(chosen[0]?.view.box[2] ?? 0) * scale} scale={scale} shown={shown} />
        </g>
      ))}
    </g>
  );
}

interface TLabelProperties {
  view: View;
  index: number;
  right: number; // of the innermost view, in pixels of the screen
  scale: number;
  shown: Size;
}

/** "t 0.2" on the lower edge of a view's frame, each further one a step to the left, so that none covers another. */
function TLabel({ view, index, right, scale, shown }: TLabelProperties) {
  const [width, height, step] = [38, 17, 42];
  const x = Math.max(0, Math.min(right, shown.width) - width - index * step);
  const y = Math.max(0, Math.min(view.box[3] * scale, shown.height) - height);
  return (
    <g transform={`translate(${x} ${y})`}>
      <rect width={width} height={height} rx={3} class="t-back" />
      <text x={width / 2} y={12.5} text-anchor="middle" class="t-text">
        t {view.t}
      </text>
    </g>
  );
}

// --- boxes of an answer -------------------------------------------------------------------------------------------

/** The boxes of the words of an answer; that of the words pointed at stands out, with them. */
function Spans({ scale, shown }: { scale: number; shown: Size }) {
  const spans = shownSpans.value;
  const pointed = hoveredSpan.value?.turn === shownTurn.value ? spans[hoveredSpan.value.index] : undefined;
  return (
    <g class="spans">
      {pointed && <path d={`M0 0H${shown.width}V${shown.height}H0Z${boxPath(pointed.box, scale)}`} class="spotlight" />}
      {spans.map((span, index) => {
        const kinds = `${pointed && sameWords(span, pointed) ? " pointed" : ""}${doubtOf(span) ? " doubted" : ""}`;
        return (
          <g key={index} class={`span${kinds}`} data-span={index}>
            <path d={boxPath(span.box, scale)} class="halo" />
            <path d={boxPath(span.box, scale)} class="line" />
          </g>
        );
      })}
      {pointed && (
        <SpanName span={pointed} text={shownWords.value[spans.indexOf(pointed)] ?? ""} scale={scale} shown={shown} />
      )}
    </g>
  );
}

interface SpanNameProperties {
  span: GroundedSpan;
  text: string;
  scale: number;
  shown: Size;
}

function SpanName({ span, text, scale, shown }: SpanNameProperties) {
  const words = `${text.length > SHORT ? `${text.slice(0, SHORT - 1)}…` : text}${doubtOf(span) ? ", not verified" : ""}`;
  const width = Math.min(textWidth(words) + LABEL_PADDING, shown.width);
  const x = Math.max(0, Math.min(span.box[0] * scale, shown.width - width));
  const y = Math.max(0, span.box[1] * scale - LABEL_HEIGHT);
  return (
    <g transform={`translate(${x} ${y})`}>
      <rect width={width} height={LABEL_HEIGHT} rx={3} class="name-back" />
      <text x={LABEL_PADDING / 2} y={15.5} class="name-text">
        {words}
      </text>
    </g>
  );
}

// --- labels ---------------------------------------------------------------------------------------------------------

const measurer = document.createElement("canvas").getContext("2d");

function textWidth(text: string): number {
  if (!measurer) return text.length * 8;
  measurer.font = LABEL_FONT;
  return measurer.measureText(text).width;
}

/** The short text for a region on the image: its caption, or where that is long, the name in it. */
export function shortText(answer: RegionAnswer | null): string {
  if (!answer) return "";
  if (answer.error) return "not valid";
  const { caption, label, categories, tags, attributes } = answer;
  if (caption && caption.text.length <= SHORT) return caption.text;
  const text =
    caption?.name ?? caption?.text ?? label ?? categories?.[0]?.name ?? tags?.[0]?.name ?? attributes?.[0]?.value ?? "";
  return text.length > SHORT ? `${text.slice(0, SHORT - 1)}…` : text;
}

function Labels({ scale, shown }: { scale: number; shown: Size }) {
  const all = drawn.value;
  const texts = all.map((region, index) => `${index + 1} ${shortText(freshAnswer(region))}`.trim());
  const boxes = all.map((region) => freshAnswer(region)?.box ?? boundsOf(region.prompt));
  // The selected region's label is placed first, so that it gets the best place.
  const order = all.map((_, index) => index).sort((a, b) => Number(isChosen(all[b])) - Number(isChosen(all[a])));
  const wanted = order.map((index) => {
    const [left, top, right, bottom] = boxes[index] ?? [0, 0, 0, 0];
    const width = Math.min(textWidth(texts[index] ?? "") + LABEL_PADDING, shown.width);
    return { box: [left * scale, top * scale, right * scale, bottom * scale] as const, width, height: LABEL_HEIGHT };
  });
  const places = placeLabels(wanted, shown);
  return (
    <div class="labels">
      {order.map((index, rank) => {
        const place: Place | null | undefined = places[rank];
        const region = all[index];
        if (!place || !region) return null;
        const style = {
          left: `${place.x}px`,
          top: `${place.y}px`,
          width: `${wanted[rank]?.width}px`,
          "--mark": colourOf(index),
        };
        const pointed = hoveredWord.value?.key === region.key;
        return (
          <button
            key={region.key}
            type="button"
            tabIndex={-1}
            class={`label${isChosen(region) ? " chosen" : ""}${pointed ? " pointed" : ""}`}
            style={style}
            onClick={() => {
              selectedKey.value = region.key;
            }}
          >
            {texts[index]}
          </button>
        );
      })}
    </div>
  );
}

const isChosen = (region: Region | undefined): boolean => region !== undefined && region.key === selectedKey.value;
