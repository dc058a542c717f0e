// Settings and regions -> the JSON of a request.
import { LABEL_TASKS } from "./contract";
import { promptFields, type Region } from "./geometry";
import { listOf, type Settings } from "./settings";

export type Fields = Record<string, unknown>;

const THUMBNAIL_REGIONS = 16; // docs/explain.md: thumbnails come for at most so many regions of a request

/** The fields of /v1/describe but `image`. */
export function describeFields(settings: Settings, regions: readonly Region[]): Fields {
  const written = regions.map(({ prompt }) => {
    const outlined = prompt.kind === "polygon" || prompt.kind === "points";
    return { ...promptFields(prompt), ...(outlined && settings.highlight ? { highlight: true } : {}) };
  });
  return { regions: written, ...outputFields(settings, regions.length) };
}

/** The fields of /v1/detect but `image`; everything found is described in the same request. */
export function detectFields(settings: Settings): Fields {
  const threshold = numberOf(settings.findThreshold);
  const { language, ...describe } = outputFields(settings, settings.maxRegions);
  return {
    ...(settings.findBy === "names" ? { names: listOf(settings.names) } : {}),
    ...(settings.findBy === "phrase" ? { phrase: settings.phrase } : {}),
    ...(threshold === undefined ? {} : { threshold }),
    max_regions: settings.maxRegions,
    masks: settings.masks,
    describe,
    ...(language ? { language } : {}),
  };
}

function outputFields(settings: Settings, numRegions: number): Fields {
  const fields: Fields = {};
  if (settings.views === "task") fields.task = [...settings.tasks];
  const vocabulary = vocabularyField(settings);
  if (vocabulary) fields.vocabulary = vocabulary;
  if (settings.language) fields.language = settings.language;
  const controls = listOf(settings.controls);
  if (controls.length) fields.controls = controls;
  if (controls.length && settings.controlsOnly) fields.controls_only = true;
  fields.top_k = settings.topK;
  const thresholds = thresholdFields(settings);
  if (Object.keys(thresholds).length) fields.thresholds = thresholds;
  if (settings.numCaptions > 1) fields.num_captions = settings.numCaptions;
  const maxWords = numberOf(settings.maxWords);
  if (maxWords !== undefined) fields.max_words = maxWords;
  if (settings.explain) {
    fields.explain = { candidates: true, evidence: true, thumbnails: numRegions <= THUMBNAIL_REGIONS };
  }
  return fields;
}

function vocabularyField({ vocabulary, words }: Settings): unknown {
  if (vocabulary !== "own") return vocabulary || undefined;
  const lists = LABEL_TASKS.map((task) => [task, listOf(words[task])] as const).filter(([, list]) => list.length);
  return lists.length ? Object.fromEntries(lists) : undefined;
}

function thresholdFields({ thresholds }: Settings): Record<string, number> {
  const numbers: Record<string, number> = {};
  for (const task of LABEL_TASKS) {
    const threshold = numberOf(thresholds[task]);
    if (threshold !== undefined) numbers[task] = threshold;
  }
  return numbers;
}

function numberOf(text: string): number | undefined {
  return text.trim() && Number.isFinite(Number(text)) ? Number(text) : undefined;
}
