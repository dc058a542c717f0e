// Calls of the service. All addresses are relative to the page, so that it works behind any path prefix.
import { signal } from "@preact/signals";
import type { Problem } from "./contract";

const KEY_NAME = "dynrefer-key"; // sessionStorage: gone with the tab, and never in the address
const MOST_WAIT_S = 30;

export const key = signal(readKey());
/** Whether the last call was refused for want of a valid key. */
export const keyWanted = signal(false);
/** What the page waits for, such as a service that still loads; null where it waits for nothing. */
export const waiting = signal<string | null>(null);

export function setKey(text: string): void {
  key.value = text.trim();
  keyWanted.value = false;
  try {
    sessionStorage.setItem(KEY_NAME, key.value);
  } catch {
    // Storage may be switched off; the key then lasts as long as the page.
  }
}

function readKey(): string {
  try {
    return sessionStorage.getItem(KEY_NAME) ?? "";
  } catch {
    return "";
  }
}

/** The service refused or failed; `problem` is its own document, or one made here where it sent none. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

/** A JSON answer. Raises as `accepted`. */
export async function call<Document>(path: string, init: RequestInit = {}, signal?: AbortSignal): Promise<Document> {
  return (await (await accepted(path, init, signal)).json()) as Document;
}

/** A good answer. A service that is loading or full (503, 429) is asked again when it says so. Raises Refused. */
export async function accepted(path: string, init: RequestInit = {}, signal?: AbortSignal): Promise<Response> {
  try {
    for (;;) {
      const response = await send(path, init, signal);
      if (response.ok) return response;
      const problem = await problemOf(response);
      if (response.status === 401) keyWanted.value = true;
      if (response.status !== 503 && response.status !== 429) throw new Refused(problem);
      const seconds = Math.min(Number(response.headers.get("Retry-After")) || 1, MOST_WAIT_S);
      waiting.value = `${problem.detail} Trying again in ${seconds} s.`;
      await pause(seconds * 1000, signal);
    }
  } finally {
    waiting.value = null;
  }
}

async function send(path: string, init: RequestInit, signal?: AbortSignal): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key.value) headers.set("Authorization", `Bearer ${key.value}`);
  try {
    return await fetch(path, { ...init, headers, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Refused({ title: "No answer", status: 0, detail: "The service did not respond. Is it still running?" });
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const plain = {
    title: response.statusText,
    status: response.status,
    detail: `The service answered ${response.status}.`,
  };
  try {
    return { ...plain, ...((await response.json()) as Partial<Problem>) };
  } catch {
    return plain;
  }
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}
