// The part of the public contract (docs/requests.md, docs/finding.md, docs/explain.md, docs/converse.md) that the page reads and writes.
// Coordinates are pixels of the upright image; boxes are xyxy.

export type Box = readonly [number, number, number, number];
export type Point = readonly [number, number];

export const TASKS = ["caption", "tags", "attributes", "categories"] as const;
export type Task = (typeof TASKS)[number];
export type LabelTask = Exclude<Task, "caption">;
export const LABEL_TASKS: readonly LabelTask[] = ["categories", "tags", "attributes"];

export interface RunLengths {
  size: [number, number]; // height, width
  counts: string;
}

export interface View {
  t: number;
  box: Box;
}

interface WithViews {
  views?: View[];
  view_policy?: string;
}

export interface Caption extends WithViews {
  text: string;
  score: number;
  name?: string;
  probability?: number;
  candidates?: { text: string; score: number }[];
}

export interface Label extends WithViews {
  name: string;
  score: number;
  probability?: number;
  level?: string;
  value?: string; // of an attribute: brown, where its name is color:brown
}

export interface ExplainedView extends View {
  hash: string;
  distance: number;
  gain?: number;
  chosen: boolean;
  tasks?: Task[];
  thumbnail?: string; // WebP in Base64, as the network sees the view
}

export interface ExplainedWord {
  text: string;
  span: [number, number]; // characters [start, end) of the caption
  kind: "noun" | "property" | "unknown";
  supported: boolean;
  support?: { task: Task; name: string; score: number; probability?: number };
  carried_by?: "view" | "evidence";
  view?: number;
  left_out?: { t: number; drop: number }[];
}

export interface Explanation {
  views: ExplainedView[];
  priors: { tasks: Task[]; policy: string; t: number[] }[];
  words?: ExplainedWord[];
  controls?: { word: string; source: string; given: boolean; taken_up: boolean }[];
  evidence?: { domain: "drawing" | "photograph"; photograph_probability: number };
}

export interface RegionAnswer extends WithViews {
  id: string;
  box?: Box;
  clipped?: boolean;
  mask?: RunLengths;
  caption?: Caption;
  tags?: Label[];
  attributes?: Label[];
  categories?: Label[];
  explanation?: Explanation;
  error?: Problem;
  // of /v1/detect
  label?: string;
  score?: number;
  probability?: number;
  span?: [number, number];
}

export interface Answer {
  id: string;
  model: string;
  image: { width: number; height: number; frames?: number };
  regions: RegionAnswer[];
  unknown_words?: { name: string; nearest: string[] }[];
  absent?: { name: string; probability?: number }[];
  timings_ms: Record<string, number>;
}

export interface Message {
  role: "user" | "assistant";
  content: string;
}

export interface GroundedSpan {
  span: [number, number]; // characters [start, end) of the content: code points, not the UTF-16 units of JavaScript
  box: Box;
  probability?: number;
  verified?: boolean;
  region?: string;
}

export interface Reply extends Message {
  grounding: GroundedSpan[];
  probability?: number;
  answers?: { answer: string; probability: number }[];
}

/** The answer of /v1/converse; of one that is streamed, the data of its last event. */
export interface ConverseAnswer {
  message: Reply;
  finish_reason: "stop" | "length";
  timings_ms: Record<string, number>;
}

export interface Flaw {
  pointer: string;
  detail: string;
}

export interface Problem {
  title: string;
  status: number;
  detail: string;
  errors?: Flaw[];
}

export interface ModelCard {
  name: string;
  revision: string;
  parameters: number;
  dtype: string;
  device: string;
  views: { count: number; size: number };
  vocabulary: Record<LabelTask, { size: number }>;
  limits: Record<string, number>;
  trained_on: string;
  intended_use: string;
  capabilities: { prompts: string[]; detection: boolean; masks: boolean; conversation: boolean };
}

export interface VocabularyEntry {
  name: string;
  description: string;
  sizes: Partial<Record<LabelTask, number>>;
  languages?: string[];
}
