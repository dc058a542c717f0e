// Which model answers, what it was trained on, the key, and the appearance of the page.
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { retryAll } from "../actions";
import { key, keyWanted, setKey } from "../api";
import { card } from "../state";

export function Header() {
  return (
    <header>
      <img src="static/icon.svg" alt="" width="34" height="34" />
      <div class="title">
        <h1>DynRefer</h1>
        <p>Point at something. Read what it is, and see what the model looked at.</p>
      </div>
      <Model />
      <nav aria-label="Pages">
        <KeyField />
        <a href="docs">API</a>
        <Appearance />
      </nav>
    </header>
  );
}

function Model() {
  const model = card.value;
  if (!model) return <span class="model quiet">model …</span>;
  const millions = model.parameters / 1e6;
  const size = millions >= 1000 ? `${(millions / 1000).toFixed(1)} billion` : `${millions.toFixed(1)} million`;
  return (
    <details class="model">
      <summary>
        <b>{model.name}</b>{" "}
        <span class="quiet">
          {size} parameters, {model.device}
        </span>
      </summary>
      <div class="pop">
        <dl>
          <dt>Trained on</dt>
          <dd>{model.trained_on}</dd>
          <dt>Meant for</dt>
          <dd>{model.intended_use}</dd>
          <dt>Views</dt>
          <dd>
            {model.views.count} of {model.views.size} × {model.views.size} pixels
          </dd>
          <dt>Words</dt>
          <dd>
            {Object.entries(model.vocabulary)
              .map(([name, { size: count }]) => `${count} ${name}`)
              .join(", ")}
          </dd>
          <dt>Revision</dt>
          <dd>
            <code>{model.revision}</code>, {model.dtype}
          </dd>
        </dl>
      </div>
    </details>
  );
}

function KeyField() {
  const details = useRef<HTMLDetailsElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const wanted = keyWanted.value;
  useEffect(() => {
    if (!wanted || !details.current) return;
    details.current.open = true;
    input.current?.focus();
  }, [wanted]);
  return (
    <details class="key" ref={details}>
      <summary>{key.value ? "Key set" : "Key"}</summary>
      <form
        class="pop"
        onSubmit={(event) => {
          event.preventDefault();
          setKey(input.current?.value ?? "");
          if (details.current) details.current.open = false;
          void retryAll();
        }}
      >
        {wanted && (
          <p class="error" role="alert">
            {key.value ? "The service does not know this key." : "This service asks for a key."}
          </p>
        )}
        <label>
          API key
          <input ref={input} type="password" autocomplete="off" defaultValue={key.value} />
        </label>
        <p class="quiet">Kept in this tab until it is closed; never in a link.</p>
        <button type="submit" class="primary">
          Use this key
        </button>
      </form>
    </details>
  );
}

// --- appearance -----------------------------------------------------------------------------------------------------

const APPEARANCES = ["auto", "light", "dark"] as const;
const appearance = signal<(typeof APPEARANCES)[number]>("auto");

function Appearance() {
  useEffect(() => {
    document.documentElement.dataset.appearance = appearance.value;
  }, [appearance.value]);
  return (
    <label>
      <span class="sr-only">Appearance</span>
      <select
        class="appearance"
        value={appearance.value}
        onChange={(event) => {
          appearance.value = event.currentTarget.value as (typeof APPEARANCES)[number];
        }}
      >
        {APPEARANCES.map((each) => (
          <option key={each} value={each}>
            {each}
          </option>
        ))}
      </select>
    </label>
  );
}
