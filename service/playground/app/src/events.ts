// Server-sent events that are the answer to a POST, which the browser's EventSource cannot make. Source: WHATWG HTML, 9.2;
// lines of this service end with LF.

export interface ServerEvent {
  kind: string;
  data: string;
}

/** The events of an answer as they come; it ends with the answer. */
export async function* eventsOf(response: Response): AsyncGenerator<ServerEvent> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let unread = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (unread + value).split("\n\n");
      unread = parts.pop() ?? "";
      for (const part of parts) yield eventOf(part.split("\n"));
    }
  } finally {
    await reader.cancel().catch(() => undefined); // of one that was aborted there is nothing left to cancel
  }
}

function eventOf(lines: readonly string[]): ServerEvent {
  const event = { kind: "message", data: "" };
  for (const line of lines) {
    const [, name, value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "event") event.kind = value;
    else if (name === "data") event.data += value;
  }
  return event;
}
