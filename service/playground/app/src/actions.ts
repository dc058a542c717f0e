// What the page does: open an image, describe its regions, find regions, load the model's card.
import { batch, effect } from "@preact/signals";
import { call, isAbort, keyWanted, Refused } from "./api";
import type { Answer, ModelCard, RegionAnswer, VocabularyEntry } from "./contract";
import { describeFields, detectFields, type Fields } from "./fields";
import type { Prompt, Region, Size } from "./geometry";
import { addRegion, changeRegions, newKey, regions, removeRegion, resetRegions } from "./history";
import { settings } from "./settings";
import {
  answers,
  busy,
  card,
  type Described,
  dragged,
  hoveredView,
  hoveredWord,
  lastAnswer,
  notice,
  type Picture,
  picture,
  problem,
  ready,
  type Sample,
  selectedKey,
  undescribed,
  vocabularies,
} from "./state";

const DRAWING_PAUSE_MS = 120; // several changes in a row, such as an undo held down, are one request

let running: AbortController | null = null;
let soon: ReturnType<typeof setTimeout> | undefined;
/** The regions of the last request, in its order: the pointer /regions/1 means the second of them. */
export let askedRegions: readonly Region[] = [];

// --- the image ----------------------------------------------------------------------------------------------------

export async function openSample(sample: Sample): Promise<void> {
  showPlaceholder(sample);
  const response = await fetch(`static/samples/${sample.file}`);
  const file = await response.blob();
  if (picture.value?.sample !== sample) return; // another image was opened meanwhile
  picture.value = { ...picture.value, file };
  await describe(regions.value);
}

function showPlaceholder(sample: Sample): void {
  const { title, file, width, height } = sample;
  show(
    { name: title, url: `static/samples/${file}`, width, height, file: new Blob(), sample, remote: null },
    sample.regions.map((box): Prompt => ({ kind: "box", box })),
  );
}

export async function openFile(file: Blob, name = "image"): Promise<void> {
  const url = URL.createObjectURL(file);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    const detail = `The browser cannot show "${name}". Choose a JPEG, PNG, WebP, GIF, BMP or AVIF.`;
    problem.value = { about: "image", problem: { title: "Not an image", status: 0, detail } };
    return;
  }
  // The browser applies the EXIF orientation here, as the service does: both mean the upright image.
  show({ name, url, width: image.naturalWidth, height: image.naturalHeight, file, sample: null, remote: null }, []);
  notice.value = `${name}: ${image.naturalWidth} × ${image.naturalHeight} pixels. Point at something, or find regions.`;
}

/**
 * An image that the service fetches. The page may ask no other host, so it shows the service's own view of the whole
 * image, which is small.
 */
export async function openAddress(address: string): Promise<void> {
  stop();
  notice.value = "The service fetches the image …";
  const fields = {
    image: { url: address },
    regions: [{ box: [0, 0, 1, 1] }],
    coordinates: "unit",
    task: "tags",
    explain: { candidates: true, evidence: false, thumbnails: true },
  };
  const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) };
  try {
    const { image, regions: whole } = await call<Answer>("v1/describe", init);
    const thumbnail = whole[0]?.explanation?.views.at(-1)?.thumbnail;
    const url = enlarged(thumbnail ?? null, image);
    show({ name: address, url, ...image, file: new Blob(), sample: null, remote: address }, []);
    notice.value = "Fetched. The page loads nothing from other hosts: it shows the service's small view of the image.";
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem.value = { about: "image", problem: error.problem };
    notice.value = "";
  }
}

/** A view of the whole image, a small square, drawn as large as the image: its pixels are the image's coordinates. */
function enlarged(thumbnail: string | null, { width, height }: Size): string {
  const drawn = thumbnail
    ? `<image href="data:image/webp;base64,${thumbnail}" width="100%" height="100%" preserveAspectRatio="none"/>`
    : "";
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${drawn}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

function show(next: NonNullable<typeof picture.value>, prompts: Prompt[]): void {
  stop();
  const before = picture.value;
  batch(() => {
    if (before?.url.startsWith("blob:")) URL.revokeObjectURL(before.url);
    picture.value = next;
    const first = prompts.map((prompt): Region => ({ key: newKey(), prompt }));
    resetRegions(first);
    answers.value = new Map();
    selectedKey.value = first[0]?.key ?? null;
    dragged.value = hoveredView.value = hoveredWord.value = lastAnswer.value = problem.value = null;
  });
}

// --- regions --------------------------------------------------------------------------------------------------------

export function add(prompt: Prompt): string {
  const key = addRegion(prompt);
  selectedKey.value = key;
  describeSoon();
  return key;
}

export function remove(key: string): void {
  const index = regions.value.findIndex((region) => region.key === key);
  batch(() => {
    removeRegion(key);
    if (selectedKey.value === key)
      selectedKey.value = regions.value[Math.min(index, regions.value.length - 1)]?.key ?? null;
    notice.value = `Region ${index + 1} removed.`;
  });
}

export function clear(): void {
  stop();
  batch(() => {
    changeRegions([]);
    selectedKey.value = null;
    problem.value = null;
  });
}

// --- requests -------------------------------------------------------------------------------------------------------

// What was refused may be mended by a change of the regions; if it is not, the next answer says so again.
effect(() => {
  regions.value;
  if (problem.peek()?.about === "describe") problem.value = null;
});

/** Describe what has no answer yet, once the user pauses; nothing where describing waits for the button. */
export function describeSoon(): void {
  clearTimeout(soon);
  if (!settings.value.automatic) return;
  soon = setTimeout(() => {
    if (undescribed.value.length) void describe(undescribed.value);
  }, DRAWING_PAUSE_MS);
}

export async function describe(which: readonly Region[]): Promise<void> {
  if (!ready.value || !which.length) return;
  askedRegions = which;
  await ask("describing", "v1/describe", describeFields(settings.value, which), (answer) => {
    const next = new Map(answers.value);
    which.forEach((region, index) => {
      const described = answer.regions[index];
      if (described) next.set(region.key, { region, answer: described });
    });
    answers.value = next;
    notice.value = `${which.length === 1 ? "One region" : `${which.length} regions`} described. ${spoken(answer)}`;
  });
}

export async function find(): Promise<void> {
  if (!ready.value) return;
  askedRegions = [];
  await ask("finding", "v1/detect", detectFields(settings.value), (answer) => {
    const found = answer.regions.map((each): Described => {
      const region: Region = { key: newKey(), prompt: { kind: "box", box: each.box ?? [0, 0, 0, 0] } };
      return { region, answer: each };
    });
    changeRegions(found.map(({ region }) => region));
    answers.value = new Map(found.map((each) => [each.region.key, each]));
    selectedKey.value = found[0]?.region.key ?? null;
    notice.value = found.length ? `${found.length} regions found. ${spoken(answer)}` : "Nothing was found.";
  });
}

function spoken(answer: Answer): string {
  const first = answer.regions[0];
  const text = first?.caption?.text ?? first?.label ?? first?.categories?.[0]?.name;
  return `${text ? `First: ${text}. ` : ""}${(answer.timings_ms.total ?? 0).toFixed(0)} ms.`;
}

/** One request at a time: a newer one takes the place of the one that runs. */
async function ask(kind: "describing" | "finding", path: string, fields: Fields, take: (answer: Answer) => void) {
  const image = picture.value;
  if (!image) return;
  stop();
  const mine = new AbortController();
  running = mine;
  batch(() => {
    busy.value = kind;
    problem.value = null;
    notice.value = kind === "finding" ? "Finding regions …" : "Describing …";
  });
  const about = kind === "finding" ? "find" : "describe";
  try {
    const answer = await call<Answer>(path, requestOf(image, fields), mine.signal);
    if (running !== mine || picture.value !== image) return;
    batch(() => {
      lastAnswer.value = { path, answer };
      take(answer);
    });
  } catch (error) {
    if (isAbort(error)) return;
    if (!(error instanceof Refused)) throw error;
    batch(() => {
      problem.value = { about, problem: error.problem };
      notice.value = "";
    });
  } finally {
    if (running === mine) {
      running = null;
      busy.value = null;
    }
  }
}

export function requestOf(image: Picture, fields: Fields): RequestInit {
  if (image.remote) {
    const body = JSON.stringify({ image: { url: image.remote }, ...fields });
    return { method: "POST", headers: { "Content-Type": "application/json" }, body };
  }
  const body = new FormData();
  body.append("image", image.file, "image");
  body.append("request", new Blob([JSON.stringify(fields)], { type: "application/json" }));
  return { method: "POST", body };
}

export function stop(): void {
  clearTimeout(soon);
  running?.abort();
  running = null;
  busy.value = null;
}

/** The region of the page that a pointer such as /regions/1/box means, and the rest of the pointer. */
export function flawsOfRegion(key: string): { detail: string }[] {
  const last = problem.value;
  if (last?.about !== "describe") return [];
  return (last.problem.errors ?? []).filter(({ pointer }) => {
    const found = /^\/regions\/(\d+)(\/|$)/.exec(pointer);
    return found !== null && askedRegions[Number(found[1])]?.key === key;
  });
}

// --- the model ------------------------------------------------------------------------------------------------------

export async function loadModel(): Promise<void> {
  try {
    const { models } = await call<{ models: ModelCard[] }>("v1/models");
    card.value = models[0] ?? null;
    if (problem.value?.about === "model") problem.value = null;
    vocabularies.value = (await call<{ vocabularies: VocabularyEntry[] }>("v1/vocabularies")).vocabularies;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (!keyWanted.value) problem.value = { about: "model", problem: error.problem };
  }
}

/** After a key was entered: everything that was refused is asked again. */
export async function retryAll(): Promise<void> {
  problem.value = null;
  await Promise.all([loadModel(), describe(undescribed.value)]);
}

/** The answers that the page shows at this moment, for whoever wants all of them. */
export const answeredRegions = (): RegionAnswer[] =>
  regions.value.flatMap((region) => {
    const described = answers.value.get(region.key);
    return described ? [described.answer] : [];
  });
