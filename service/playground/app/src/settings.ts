// What the request asks besides its regions, and the link that restores it. The link holds no image and no key.
import { effect, signal } from "@preact/signals";
import { LABEL_TASKS, type LabelTask, TASKS, type Task } from "./contract";

export type FindBy = "names" | "phrase" | "nothing";

export interface Settings {
  views: "image" | "task"; // chosen by the image (all four outputs), or by the prior of each chosen task
  tasks: readonly Task[];
  topK: number;
  vocabulary: string; // "" the model's own, "own" the words below, else a name that the server knows
  words: Record<LabelTask, string>; // separated by commas
  language: string;
  controls: string; // separated by commas
  controlsOnly: boolean;
  thresholds: Record<LabelTask, string>; // "" for the model's own
  numCaptions: number;
  maxWords: string;
  highlight: boolean; // of polygons and points: blank what lies outside
  explain: boolean;
  automatic: boolean; // describe as soon as a region is drawn
  findBy: FindBy;
  names: string;
  phrase: string;
  findThreshold: string;
  maxRegions: number;
  masks: boolean;
}

const NO_WORDS: Record<LabelTask, string> = { categories: "", attributes: "", tags: "" };
export const DEFAULTS: Settings = {
  views: "image",
  tasks: TASKS,
  topK: 5,
  vocabulary: "",
  words: NO_WORDS,
  language: "",
  controls: "",
  controlsOnly: false,
  thresholds: NO_WORDS,
  numCaptions: 1,
  maxWords: "",
  highlight: false,
  explain: true,
  automatic: true,
  findBy: "nothing",
  names: "",
  phrase: "",
  findThreshold: "",
  maxRegions: 10,
  masks: true,
};

export const settings = signal<Settings>(DEFAULTS);

export function set(change: Partial<Settings>): void {
  settings.value = { ...settings.value, ...change };
}

export const listOf = (text: string): string[] =>
  text
    .split(/[,\n]/)
    .map((word) => word.trim())
    .filter(Boolean);

/** The settings that differ from the defaults, as the part of an address behind the #. */
export function settingsHash(current: Settings, sample: string | null): string {
  const query = new URLSearchParams();
  if (sample) query.set("sample", sample);
  for (const [name, value] of Object.entries(current)) {
    const plain = DEFAULTS[name as keyof Settings];
    if (name === "words" || name === "thresholds") {
      for (const task of LABEL_TASKS) {
        const text = (value as Record<LabelTask, string>)[task];
        if (text) query.set(`${name}.${task}`, text);
      }
    } else if (String(value) !== String(plain)) query.set(name, String(value));
  }
  return query.toString();
}

/** The settings of such an address. What it has that no setting fits is passed over. */
export function settingsOf(hash: string): { settings: Settings; sample: string | null } {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const read: Record<string, unknown> = { ...DEFAULTS, words: { ...NO_WORDS }, thresholds: { ...NO_WORDS } };
  for (const [name, text] of query) {
    const [group, task] = name.split(".") as [string, LabelTask | undefined];
    if ((group === "words" || group === "thresholds") && task && LABEL_TASKS.includes(task)) {
      (read[group] as Record<LabelTask, string>)[task] = text;
    } else if (name in DEFAULTS) {
      const value = readAs(DEFAULTS[name as keyof Settings], text);
      if (value !== undefined) read[name] = value;
    }
  }
  return { settings: read as unknown as Settings, sample: query.get("sample") };
}

function readAs(like: unknown, text: string): unknown {
  if (typeof like === "boolean") return text === "true";
  if (typeof like === "number") return Number.isFinite(Number(text)) ? Number(text) : undefined;
  if (Array.isArray(like)) return TASKS.filter((task) => text.split(",").includes(task));
  if (like === "image") return text === "task" ? "task" : "image";
  if (like === "nothing") return ["names", "phrase"].includes(text) ? text : "nothing";
  return typeof like === "string" ? text : undefined;
}

/** Keep the address of the page in step with the settings, without a new entry in the browser's history. */
export function keepInAddress(sample: () => string | null): void {
  let soon: ReturnType<typeof setTimeout> | undefined;
  effect(() => {
    const hash = settingsHash(settings.value, sample());
    clearTimeout(soon); // Safari allows a hundred changes of the address in half a minute
    soon = setTimeout(() => {
      window.history.replaceState(null, "", hash ? `#${hash}` : window.location.pathname + window.location.search);
    }, 300);
  });
}
