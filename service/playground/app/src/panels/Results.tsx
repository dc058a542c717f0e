// What the model says of each region: caption, labels with their probabilities, and why.
import { useState } from "preact/hooks";
import { describeSoon, flawsOfRegion, remove } from "../actions";
import { colourOf } from "../colours";
import { LABEL_TASKS, type Label, type RegionAnswer } from "../contract";
import { coordinatesText, parseCoordinates, type Region } from "../geometry";
import { editRegion, regions } from "../history";
import { answers, busy, freshAnswer, lastAnswer, selectedKey } from "../state";
import { Caption } from "./Caption";
import { ProblemBox } from "./Errors";

export function Results() {
  const all = regions.value;
  return (
    <section class="results" aria-labelledby="results-title" aria-busy={busy.value !== null}>
      <h2 id="results-title">
        {all.length ? `${all.length} region${all.length > 1 ? "s" : ""}` : "No regions yet"}
        <Timings />
      </h2>
      <ProblemBox />
      {all.length === 0 && <p class="quiet">Draw on the image, or let the service find what is there.</p>}
      <Unknown />
      <ol>
        {all.map((region, index) => (
          <Card key={region.key} region={region} index={index} />
        ))}
      </ol>
    </section>
  );
}

function Timings() {
  const timings = lastAnswer.value?.answer.timings_ms;
  if (!timings) return null;
  const parts = Object.entries(timings).filter(([name]) => name !== "total");
  return (
    <details class="timings">
      <summary>{Math.round(timings.total ?? 0)} ms</summary>
      <dl>
        {parts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value.toFixed(1)} ms</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

function Unknown() {
  const words = lastAnswer.value?.answer.unknown_words ?? [];
  if (!words.length) return null;
  return (
    <p class="quiet">
      The model knows nothing of{" "}
      {words
        .map(({ name, nearest }) => `“${name}”${nearest.length ? ` (near: ${nearest.join(", ")})` : ""}`)
        .join("; ")}
      .
    </p>
  );
}

function Card({ region, index }: { region: Region; index: number }) {
  const answer = freshAnswer(region);
  const stale = answer ? null : (answers.value.get(region.key)?.answer ?? null);
  const chosen = selectedKey.value === region.key;
  const select = () => {
    selectedKey.value = region.key;
  };
  return (
    <li class={`card${chosen ? " chosen" : ""}`} style={{ "--mark": colourOf(index) }} data-region={index}>
      <div class="card-head">
        <button
          type="button"
          class="badge"
          aria-pressed={chosen}
          aria-label={`Select region ${index + 1}`}
          onClick={select}
        >
          {index + 1}
        </button>
        <div class="what">
          {answer ? (
            <Caption answer={answer} regionKey={region.key} />
          ) : (
            <p class="caption waiting">{stale?.caption?.text ?? (busy.value ? "…" : "not described yet")}</p>
          )}
        </div>
        <button
          type="button"
          class="remove"
          aria-label={`Remove region ${index + 1}`}
          onClick={() => remove(region.key)}
        >
          ×
        </button>
      </div>
      {flawsOfRegion(region.key).map(({ detail }) => (
        <p key={detail} class="error" role="alert">
          {detail}
        </p>
      ))}
      {answer?.error && <p class="error">{answer.error.detail}</p>}
      {answer && <Outputs answer={answer} open={chosen} />}
      {chosen && <Coordinates region={region} answer={answer} />}
    </li>
  );
}

function Outputs({ answer, open }: { answer: RegionAnswer; open: boolean }) {
  const lists = LABEL_TASKS.map((task) => [task, answer[task] ?? []] as const).filter(([, list]) => list.length);
  if (!open) {
    const tags = (answer.tags ?? answer.attributes ?? []).map(({ name }) => name);
    return tags.length ? <p class="brief">{tags.slice(0, 6).join(" · ")}</p> : null;
  }
  return (
    <>
      {answer.score !== undefined && (
        <p class="brief">
          found{answer.label ? ` as “${answer.label}”` : ""}, score {answer.score.toFixed(2)}
        </p>
      )}
      {lists.map(([task, list]) => (
        <div key={task} class="labels-of">
          <h3>{task}</h3>
          <ul>
            {list.map((label) => (
              <Bar key={label.name} label={label} />
            ))}
          </ul>
        </div>
      ))}
    </>
  );
}

/** A label with its calibrated probability, or its raw score where the model has no calibration. */
function Bar({ label }: { label: Label }) {
  const { name, score, probability, level } = label;
  const text =
    probability === undefined ? score.toFixed(2) : `${(probability * 100).toFixed(probability < 0.1 ? 1 : 0)} %`;
  return (
    <li class={`bar${(probability ?? 1) < 0.5 ? " unlikely" : ""}`} title={`score ${score}`}>
      <span class="name">
        {name}
        {level === "parent" && <em> broader word</em>}
      </span>
      {probability !== undefined && (
        <svg class="track" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
          <rect width="100" height="8" class="back" />
          <rect width={probability * 100} height="8" class="fill" />
        </svg>
      )}
      <span class="number">{text}</span>
    </li>
  );
}

function Coordinates({ region, answer }: { region: Region; answer: RegionAnswer | null }) {
  const plain = coordinatesText(region.prompt);
  const [edited, setEdited] = useState<string | null>(null);
  const read = edited === null ? null : parseCoordinates(region.prompt.kind, edited);
  const wrong = typeof read === "string" ? read : null;
  const id = `coordinates-${region.key}`;
  return (
    <form
      class="coordinates"
      onSubmit={(event) => {
        event.preventDefault();
        if (read === null || typeof read === "string") return;
        editRegion(region.key, read);
        setEdited(null);
        describeSoon();
      }}
    >
      <label for={id}>
        {region.prompt.kind}, pixels{answer?.clipped ? ", clipped to the image" : ""}
      </label>
      <input
        id={id}
        value={edited ?? plain}
        aria-invalid={wrong !== null}
        aria-describedby={wrong ? `${id}-error` : undefined}
        onInput={(event) => setEdited(event.currentTarget.value)}
      />
      {edited !== null && edited !== plain && <button type="submit">Set</button>}
      {wrong && (
        <p class="error" id={`${id}-error`}>
          {wrong}
        </p>
      )}
    </form>
  );
}
