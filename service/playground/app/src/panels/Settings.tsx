// What the request asks: outputs and views, words, thresholds. Each field has the service's complaint about it below.
import type { ComponentChildren } from "preact";
import { describe, describeSoon } from "../actions";
import { LABEL_TASKS, TASKS } from "../contract";
import { regions } from "../history";
import { set, settings } from "../settings";
import { card, flawsAt, vocabularies } from "../state";
import { Errors } from "./Errors";

export function SettingsPanel() {
  return (
    <section class="settings" aria-labelledby="settings-title">
      <h2 id="settings-title">What is asked</h2>
      <Outputs />
      <Group title="Words" pointers={["/vocabulary", "/language", "/controls", "/controls_only"]}>
        <Vocabulary />
        <Controls />
      </Group>
      <Group title="How much" pointers={["/top_k", "/thresholds", "/num_captions", "/max_words"]}>
        <Amounts />
      </Group>
      <label class="check">
        <input
          type="checkbox"
          checked={settings.value.explain}
          onChange={(event) => set({ explain: event.currentTarget.checked })}
        />
        explain why (about twice the time)
      </label>
      <Errors about="both" at={["/explain"]} />
      <label class="check">
        <input
          type="checkbox"
          checked={settings.value.highlight}
          onChange={(event) => set({ highlight: event.currentTarget.checked })}
        />
        blank what lies outside of polygons and points
      </label>
      <label class="check">
        <input
          type="checkbox"
          checked={settings.value.automatic}
          onChange={(event) => {
            set({ automatic: event.currentTarget.checked });
            describeSoon();
          }}
        />
        describe as soon as a region is drawn
      </label>
      <button type="button" disabled={!regions.value.length} onClick={() => void describe(regions.value)}>
        Describe again with these settings
      </button>
    </section>
  );
}

/** Closed until wanted, or until something in it is wrong. */
function Group({ title, pointers, children }: { title: string; pointers: string[]; children: ComponentChildren }) {
  const wrong =
    flawsAt("describe", ...pointers).length + flawsAt("find", ...pointers.map((each) => `/describe${each}`)).length > 0;
  return (
    <details {...(wrong ? { open: true } : {})}>
      <summary>{title}</summary>
      <div class="group">{children}</div>
    </details>
  );
}

function Outputs() {
  const { views, tasks } = settings.value;
  const byTask = views === "task";
  return (
    <fieldset>
      <legend>Outputs</legend>
      <label class="check">
        <input type="radio" name="views" checked={!byTask} onChange={() => set({ views: "image" })} />
        all, from views chosen for this image
      </label>
      <label class="check">
        <input type="radio" name="views" checked={byTask} onChange={() => set({ views: "task" })} />
        these, each from the views that suit it:
      </label>
      <div class="tasks">
        {TASKS.map((task) => (
          <label key={task} class="check">
            <input
              type="checkbox"
              disabled={!byTask}
              checked={tasks.includes(task)}
              onChange={(event) => {
                const on = event.currentTarget.checked;
                set({ tasks: TASKS.filter((each) => (each === task ? on : tasks.includes(each))) });
              }}
            />
            {task}
          </label>
        ))}
      </div>
      <Errors about="both" at={["/task"]} />
    </fieldset>
  );
}

function Vocabulary() {
  const { vocabulary, words, language } = settings.value;
  const known = vocabularies.value;
  const languages = [...new Set(known.flatMap((each) => each.languages ?? []))];
  return (
    <>
      <label>
        Vocabulary
        <select value={vocabulary} onChange={(event) => set({ vocabulary: event.currentTarget.value })}>
          <option value="">the model's own</option>
          <option value="own">my own words</option>
          {known.map(({ name, description }) => (
            <option key={name} value={name} title={description}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {vocabulary === "own" &&
        LABEL_TASKS.map((task) => (
          <label key={task}>
            {task}, separated by commas
            <textarea
              rows={2}
              value={words[task]}
              placeholder={
                { categories: "dog, fox, teapot", attributes: "color:red, color:brown/tan", tags: "animal, furniture" }[
                  task
                ]
              }
              onInput={(event) => set({ words: { ...words, [task]: event.currentTarget.value } })}
            />
            <Errors about="both" at={[`/vocabulary/${task}`]} />
          </label>
        ))}
      {vocabulary !== "own" && <Errors about="both" at={["/vocabulary"]} />}
      <label>
        Names in
        <select value={language} onChange={(event) => set({ language: event.currentTarget.value })}>
          <option value="">the browser's language, else English</option>
          {["en", ...languages.filter((each) => each !== "en")].map((each) => (
            <option key={each} value={each}>
              {each}
            </option>
          ))}
        </select>
      </label>
      <Errors about="both" at={["/language"]} />
    </>
  );
}

function Controls() {
  const { controls, controlsOnly } = settings.value;
  return (
    <>
      <label>
        Control words: the caption should take them up
        <input
          value={controls}
          placeholder="striped, street"
          onInput={(event) => set({ controls: event.currentTarget.value })}
        />
      </label>
      <Errors about="both" at={["/controls", "/controls_only"]} />
      <label class="check">
        <input
          type="checkbox"
          checked={controlsOnly}
          onChange={(event) => set({ controlsOnly: event.currentTarget.checked })}
        />
        them alone, without the model's own tags
      </label>
    </>
  );
}

function Amounts() {
  const { topK, numCaptions, maxWords, thresholds } = settings.value;
  const limits = card.value?.limits;
  return (
    <div class="numbers-grid">
      <label>
        Labels per list
        <input
          type="number"
          min="1"
          max={limits?.max_top_k}
          value={topK}
          onInput={(event) => set({ topK: Number(event.currentTarget.value) })}
        />
        <Errors about="both" at={["/top_k"]} />
      </label>
      <label>
        Captions
        <input
          type="number"
          min="1"
          max={limits?.max_captions}
          value={numCaptions}
          onInput={(event) => set({ numCaptions: Number(event.currentTarget.value) })}
        />
        <Errors about="both" at={["/num_captions"]} />
      </label>
      <label>
        Words at most
        <input
          type="number"
          min="1"
          value={maxWords}
          placeholder="any"
          onInput={(event) => set({ maxWords: event.currentTarget.value })}
        />
        <Errors about="both" at={["/max_words"]} />
      </label>
      {LABEL_TASKS.map((task) => (
        <label key={task}>
          {task} from score
          <input
            type="number"
            step="0.05"
            value={thresholds[task]}
            placeholder="auto"
            onInput={(event) => set({ thresholds: { ...thresholds, [task]: event.currentTarget.value } })}
          />
          <Errors about="both" at={[`/thresholds/${task}`]} />
        </label>
      ))}
    </div>
  );
}
