// The regions on the image, with undo and redo. Every change is a new list, so that a step back is an older list.
import { computed, signal } from "@preact/signals";
import type { Prompt, Region } from "./geometry";

interface History {
  past: readonly (readonly Region[])[];
  present: readonly Region[];
  future: readonly (readonly Region[])[];
}

const MOST_STEPS = 100;
const EMPTY: History = { past: [], present: [], future: [] };
const history = signal<History>(EMPTY);
let made = 0;

export const regions = computed(() => history.value.present);
export const canUndo = computed(() => history.value.past.length > 0);
export const canRedo = computed(() => history.value.future.length > 0);

/** A key that no other region of this page has. */
export const newKey = (): string => `region-${++made}`;

export function changeRegions(next: readonly Region[]): void {
  const { past, present } = history.value;
  history.value = { past: [...past, present].slice(-MOST_STEPS), present: next, future: [] };
}

/** Begin anew, for another image: nothing before it can be undone. */
export function resetRegions(next: readonly Region[]): void {
  history.value = { ...EMPTY, present: next };
}

export function addRegion(prompt: Prompt, key = newKey()): string {
  changeRegions([...regions.value, { key, prompt }]);
  return key;
}

export function editRegion(key: string, prompt: Prompt): void {
  changeRegions(regions.value.map((region) => (region.key === key ? { key, prompt } : region)));
}

export function removeRegion(key: string): void {
  changeRegions(regions.value.filter((region) => region.key !== key));
}

export function undo(): void {
  const { past, present, future } = history.value;
  const last = past.at(-1);
  if (last) history.value = { past: past.slice(0, -1), present: last, future: [present, ...future] };
}

export function redo(): void {
  const { past, present, future } = history.value;
  const [next, ...rest] = future;
  if (next) history.value = { past: [...past, present], present: next, future: rest };
}
