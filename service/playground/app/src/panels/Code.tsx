// The request to take away: as curl, Python and JSON, with the last answer and a link to these settings.
import { useState } from "preact/hooks";
import { curlOf, jsonOf, pythonOf } from "../code";
import { regions } from "../history";
import { settings, settingsHash } from "../settings";
import { lastAnswer, notice, picture } from "../state";

const FORMS = ["curl", "Python", "request", "answer"] as const;
type Form = (typeof FORMS)[number];

export function Code() {
  const [form, setForm] = useState<Form>("curl");
  const text = textOf(form);
  return (
    <section class="code" aria-labelledby="code-title">
      <h2 id="code-title">Take it away</h2>
      <div class="row">
        <fieldset class="segments small">
          <legend class="sr-only">Show as</legend>
          {FORMS.map((each) => (
            <label key={each}>
              <input type="radio" name="form" checked={form === each} onChange={() => setForm(each)} />
              <span>{each}</span>
            </label>
          ))}
        </fieldset>
        <button type="button" onClick={() => void copy(text, "Copied.")}>
          Copy
        </button>
        <button
          type="button"
          onClick={() => void copy(linkOf(), "A link to these settings was copied; it holds no image and no key.")}
        >
          Copy link
        </button>
      </div>
      <textarea readOnly spellcheck={false} rows={12} aria-label={`The same as ${form}`} value={text} />
    </section>
  );
}

function textOf(form: Form): string {
  const image = picture.value;
  const last = lastAnswer.value;
  const asked = { settings: settings.value, regions: regions.value, image, finding: last?.path === "v1/detect" };
  switch (form) {
    case "curl":
      return curlOf(asked);
    case "Python":
      return pythonOf(asked);
    case "request":
      return jsonOf(asked);
    case "answer":
      return last ? JSON.stringify(last.answer, shortThumbnails, 2) : "Nothing was answered yet.";
  }
}

const shortThumbnails = (name: string, value: unknown): unknown =>
  name === "thumbnail" && typeof value === "string" ? `${value.slice(0, 24)}…` : value;

function linkOf(): string {
  const hash = settingsHash(settings.value, picture.value?.sample?.id ?? null);
  return `${window.location.origin}${window.location.pathname}${hash ? `#${hash}` : ""}`;
}

async function copy(text: string, said: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notice.value = said;
  } catch {
    notice.value = "The browser did not let the page copy; mark the text and copy it yourself.";
  }
}
