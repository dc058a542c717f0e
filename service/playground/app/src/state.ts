// What the page knows: the image, what is selected, the answers, what went wrong. Panels read it, `actions.ts` changes it.
import { computed, signal } from "@preact/signals";
import samplesFile from "../../static/samples/samples.json";
import type { Answer, Box, Flaw, ModelCard, Problem, RegionAnswer, VocabularyEntry } from "./contract";
import type { Prompt, PromptKind, Region } from "./geometry";
import { regions } from "./history";

export interface Sample {
  id: string;
  file: string;
  title: string;
  alt: string;
  width: number;
  height: number;
  kind: string;
  credit: string;
  licence: string;
  regions: Box[];
}

export const SAMPLES = samplesFile as unknown as Sample[];

/** The image on the stage. `url`: of this server, blob:, or data: for a preview. Sizes are pixels of the upright image. */
export interface Picture {
  name: string;
  url: string;
  width: number;
  height: number;
  file: Blob; // empty until a sample has come, and where the service fetches the image
  sample: Sample | null;
  remote: string | null; // the address that the service fetches the image from
}

export type Tool = PromptKind | "select";

export const picture = signal<Picture | null>(null);
export const card = signal<ModelCard | null>(null);
export const vocabularies = signal<VocabularyEntry[]>([]);
export const tool = signal<Tool>("box");
export const pointSign = signal(true); // of the next point: on the object, or beside it
export const selectedKey = signal<string | null>(null);
export const busy = signal<"describing" | "finding" | null>(null);
export const notice = signal(""); // one sentence for the status line and screen readers
export const problem = signal<{ problem: Problem; about: "describe" | "find" | "image" | "model" } | null>(null);
export const lastAnswer = signal<{ path: string; answer: Answer } | null>(null);

/** What a region was when it was described, and what came of it. */
export interface Described {
  region: Region;
  answer: RegionAnswer;
}

export const answers = signal<ReadonlyMap<string, Described>>(new Map());

/** A region that is being dragged, ahead of the history. */
export const dragged = signal<{ key: string; prompt: Prompt } | null>(null);

/** Pointed at with mouse or keyboard: a view of the selected region by its t, a word of its caption by its index. */
export const hoveredView = signal<number | null>(null);
export const hoveredWord = signal<{ key: string; index: number } | null>(null);

/** The regions as they are to be drawn at this moment. */
export const drawn = computed<readonly Region[]>(() => {
  const moved = dragged.value;
  return moved
    ? regions.value.map((each) => (each.key === moved.key ? { ...each, prompt: moved.prompt } : each))
    : regions.value;
});

export const selected = computed(() => regions.value.find(({ key }) => key === selectedKey.value) ?? null);

/** The answer of a region, unless it has changed since. */
export function freshAnswer(region: Region): RegionAnswer | null {
  const described = answers.value.get(region.key);
  return described && described.region.prompt === region.prompt ? described.answer : null;
}

export const undescribed = computed(() => regions.value.filter((region) => !freshAnswer(region)));

/** The region whose views are shown: that of the word pointed at, the selected one, or the first with an answer. */
export const explained = computed(() => {
  const key = hoveredWord.value?.key;
  const chosen = regions.value.find((region) => region.key === key) ?? selected.value;
  if (chosen) return chosen;
  return regions.value.find((region) => freshAnswer(region)?.explanation) ?? null;
});

/** The flaws of the last problem whose pointer begins with one of these. */
export function flawsAt(about: "describe" | "find", ...pointers: string[]): Flaw[] {
  const last = problem.value;
  if (!last || last.about !== about) return [];
  return (last.problem.errors ?? []).filter(({ pointer }) =>
    pointers.some((each) => pointer === each || pointer.startsWith(`${each}/`)),
  );
}

export const ready = computed(
  () => picture.value !== null && (picture.value.file.size > 0 || picture.value.remote !== null),
);

export const indexOf = (key: string): number => regions.value.findIndex((region) => region.key === key);
