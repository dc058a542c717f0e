// Find regions: by names, by a sentence, or whatever there is.
import { find } from "../actions";
import { type FindBy, set, settings } from "../settings";
import { busy, card, lastAnswer } from "../state";
import { Errors } from "./Errors";

const CHOICES: readonly { by: FindBy; label: string }[] = [
  { by: "nothing", label: "Everything" },
  { by: "names", label: "By names" },
  { by: "phrase", label: "By a sentence" },
];

export function Find() {
  if (card.value && !card.value.capabilities.detection) return null;
  const { findBy, names, phrase } = settings.value;
  return (
    <form
      class="find"
      aria-label="Find regions"
      onSubmit={(event) => {
        event.preventDefault();
        void find();
      }}
    >
      <div class="row">
        <label>
          <span class="caption-of">Find</span>
          <select value={findBy} onChange={(event) => set({ findBy: event.currentTarget.value as FindBy })}>
            {CHOICES.map(({ by, label }) => (
              <option key={by} value={by}>
                {label}
              </option>
            ))}
          </select>
        </label>
        {findBy === "names" && (
          <label class="grow">
            <span class="sr-only">Names, separated by commas</span>
            <input
              required
              value={names}
              placeholder="dog, mug, car"
              onInput={(event) => set({ names: event.currentTarget.value })}
            />
          </label>
        )}
        {findBy === "phrase" && (
          <label class="grow">
            <span class="sr-only">Sentence</span>
            <input
              required
              value={phrase}
              placeholder="the red cup left of the laptop"
              onInput={(event) => set({ phrase: event.currentTarget.value })}
            />
          </label>
        )}
        <button type="submit" disabled={busy.value === "finding"}>
          Find and describe
        </button>
        <Limits />
      </div>
      <Errors about="find" at={["/names", "/phrase", "/threshold", "/max_regions"]} />
      <Absent />
    </form>
  );
}

function Limits() {
  const { findThreshold, maxRegions, masks } = settings.value;
  const most = card.value?.limits.max_found_regions ?? 64;
  return (
    <>
      <label title="At most so many regions">
        <span class="caption-of">at most</span>
        <input
          type="number"
          class="short"
          min="1"
          max={most}
          value={maxRegions}
          onInput={(event) => set({ maxRegions: Number(event.currentTarget.value) || 1 })}
        />
      </label>
      <label title="Least score of a region, 0 to 1; empty: the finder's own">
        <span class="caption-of">score from</span>
        <input
          type="number"
          class="short"
          min="0"
          max="1"
          step="0.05"
          placeholder="auto"
          value={findThreshold}
          onInput={(event) => set({ findThreshold: event.currentTarget.value })}
        />
      </label>
      <label class="check">
        <input type="checkbox" checked={masks} onChange={(event) => set({ masks: event.currentTarget.checked })} />{" "}
        masks
      </label>
    </>
  );
}

function Absent() {
  const last = lastAnswer.value;
  const absent = last?.path === "v1/detect" ? (last.answer.absent ?? []) : [];
  if (!absent.length) return null;
  const text = absent.map(
    ({ name, probability }) => `${name}${probability === undefined ? "" : ` (${percent(probability)})`}`,
  );
  return <p class="quiet">Probably not shown: {text.join(", ")}</p>;
}

const percent = (value: number): string => `${(value * 100).toFixed(value < 0.01 ? 1 : 0)} %`;
