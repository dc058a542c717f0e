// The conversation about the image: its turns, what is being written, and which words belong to which box.
import { batch, computed, effect, signal } from "@preact/signals";
import { requestOf } from "./actions";
import { accepted, isAbort, Refused } from "./api";
import type { Box, ConverseAnswer, GroundedSpan, Message, Point, Problem } from "./contract";
import { eventsOf } from "./events";
import { type Prompt, promptFields } from "./geometry";
import { regions } from "./history";
import { listOf } from "./settings";
import { card, indexOf, notice, picture, ready } from "./state";

const REFERENCE = /<region:([^<>]*)>/g;

export interface Turn {
  question: string;
  text: string; // of the answer, as far as it is written
  answer: ConverseAnswer | null; // once it is whole
}

/** A region that messages refer to by a name. What it was stays known when it is removed from the image. */
interface Named {
  key: string;
  prompt: Prompt;
}

export const turns = signal<readonly Turn[]>([]);
export const draft = signal("");
export const allowed = signal(""); // answers, separated by commas; empty: any
export const refusal = signal<Problem | null>(null);
export const answering = signal(false);
/** Words of an answer that are pointed at, or whose box is. */
export const hoveredSpan = signal<{ turn: number; index: number } | null>(null);
const named = signal<ReadonlyMap<string, Named>>(new Map());
let running: AbortController | null = null;

/** The turn whose boxes are on the image: that of the words pointed at, else the last that was answered. */
export const shownTurn = computed(() => {
  const last = turns.value.findLastIndex(({ answer }) => answer !== null);
  return hoveredSpan.value?.turn ?? last;
});
/** The words of each of these boxes. */
export const shownWords = computed(() => {
  const text = turns.value[shownTurn.value]?.text ?? "";
  return spansIn(text, shownSpans.value).map(({ span: [start, end] }) => text.slice(start, end));
});
export const shownSpans = computed(() => turns.value[shownTurn.value]?.answer?.message.grounding ?? []);

export function startAnew(): void {
  running?.abort();
  running = null;
  batch(() => {
    turns.value = [];
    named.value = new Map();
    answering.value = false;
    refusal.value = hoveredSpan.value = null;
  });
}

// Another image is another conversation.
let url: string | null = null;
effect(() => {
  const next = picture.value?.url ?? null;
  if (next !== url && url !== null) startAnew();
  url = next;
});

// --- names of regions -----------------------------------------------------------------------------------------------

/** The name by which messages refer to a region of the image: its number, unless another region has had that one. */
export function nameOf(key: string): string {
  for (const [name, each] of named.value) if (each.key === key) return name;
  let number = indexOf(key) + 1;
  while (named.value.has(String(number))) number++;
  return String(number);
}

/** The region of the image that a name means; -1 where it has been removed, or never was. */
export const indexNamed = (name: string): number =>
  named.value.has(name)
    ? indexOf(named.value.get(name)?.key ?? "")
    : regions.value.findIndex(({ key }) => nameOf(key) === name);

export const referencesIn = (text: string): string[] => [...text.matchAll(REFERENCE)].map(([, name = ""]) => name);

/** The regions that these texts refer to, each as it is now on the image. A name that means none is left out. */
function regionsOf(texts: readonly string[]): Map<string, Named> {
  const found = new Map<string, Named>();
  for (const name of texts.flatMap(referencesIn)) {
    const region = regions.value[indexNamed(name)];
    const known = region ?? named.value.get(name);
    if (known) found.set(name, { key: known.key, prompt: known.prompt });
  }
  return found;
}

// --- asking ---------------------------------------------------------------------------------------------------------

export async function ask(): Promise<void> {
  const image = picture.value;
  const question = draft.value.trim();
  if (!image || !ready.value || !question || answering.value) return;
  const mine = new AbortController();
  running = mine;
  const before = turns.value;
  const change = (part: Partial<Turn>) => {
    if (running === mine) turns.value = [...before, { question, text: "", answer: null, ...part }];
  };
  batch(() => {
    named.value = regionsOf([...before.map((turn) => turn.question), question]);
    answering.value = true;
    refusal.value = null;
    draft.value = "";
    change({});
  });
  try {
    const response = await accepted("v1/converse", requestOf(image, fieldsOf(before, question)), mine.signal);
    const answer = await read(response, (text) => change({ text }));
    change({ text: answer.message.content, answer });
    if (running === mine) notice.value = `Answer: ${answer.message.content}`;
  } catch (error) {
    if (!isAbort(error) && !(error instanceof Refused)) throw error;
    if (running !== mine) return;
    batch(() => {
      turns.value = before;
      if (!draft.value) draft.value = question; // to be mended, or asked again
      if (error instanceof Refused) refusal.value = error.problem;
    });
  } finally {
    if (running === mine) {
      running = null;
      answering.value = false;
    }
  }
}

export const stopAnswer = (): void => running?.abort();

/** The last of the turns before a question, as many as the service takes. */
function recent(before: readonly Turn[]): readonly Turn[] {
  const most = card.value?.limits.max_messages ?? Number.POSITIVE_INFINITY;
  return before.slice(Math.max(0, before.length - Math.floor((most - 1) / 2)));
}

function fieldsOf(before: readonly Turn[], question: string): Record<string, unknown> {
  const messages = recent(before).flatMap((turn): Message[] => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.text },
  ]);
  const answers = listOf(allowed.value);
  return {
    messages: [...messages, { role: "user", content: question }],
    regions: [...named.value].map(([id, { prompt }]) => ({ id, ...promptFields(prompt) })),
    ...(answers.length ? { answers } : {}),
    stream: true,
  };
}

/** The whole answer; `write` is told its text as it comes. Raises Refused. */
async function read(response: Response, write: (text: string) => void): Promise<ConverseAnswer> {
  let text = "";
  try {
    for await (const { kind, data } of eventsOf(response)) {
      if (kind === "delta") {
        text += (JSON.parse(data) as { content: string }).content;
        write(text);
      } else if (kind === "done") return JSON.parse(data) as ConverseAnswer;
      else if (kind === "error") throw new Refused(JSON.parse(data) as Problem);
    }
  } catch (error) {
    if (isAbort(error) || error instanceof Refused) throw error;
  }
  throw new Refused({ title: "Broken off", status: 0, detail: "The answer broke off. Ask again." });
}

// --- words and boxes ------------------------------------------------------------------------------------------------

/** The spans of an answer, as JavaScript counts characters. */
export function spansIn(text: string, grounding: readonly GroundedSpan[]): { span: [number, number] }[] {
  const points = Array.from(text);
  const units = (count: number) => points.slice(0, count).join("").length;
  return grounding.map(({ span: [start, end] }) => ({ span: [units(start), units(end)] }));
}

/** The smallest box of the shown answer around a place of the image, which is the one pointed at. */
export function pointAt([x, y]: Point): void {
  const area = ([left, top, right, bottom]: Box) => (right - left) * (bottom - top);
  const inside = shownSpans.value
    .map(({ box }, index) => ({ box, index }))
    .filter(({ box: [left, top, right, bottom] }) => x >= left && x <= right && y >= top && y <= bottom)
    .sort((one, other) => area(one.box) - area(other.box));
  const index = inside[0]?.index;
  hoveredSpan.value = index === undefined ? null : { turn: shownTurn.value, index };
}

/** Whether two boxes belong to the same words, such as "two dogs". */
export const sameWords = ({ span: [start, end] }: GroundedSpan, { span }: GroundedSpan): boolean =>
  span[0] === start && span[1] === end;

export const doubtOf = ({ verified }: GroundedSpan): string | undefined =>
  verified === false ? "Not verified: the region model sees something else in this box." : undefined;
