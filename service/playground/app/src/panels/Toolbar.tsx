// The tools over the image, and what can be done with all regions.
import { clear, describe, describeSoon, remove, stop } from "../actions";
import { waiting } from "../api";
import { canRedo, canUndo, redo, regions, undo } from "../history";
import { busy, card, notice, pointSign, selected, selectedKey, type Tool, tool } from "../state";

const TOOLS: readonly { tool: Tool; name: string; path: string; hint: string }[] = [
  { tool: "box", name: "Box", path: "M4 6h16v12H4z", hint: "Drag a box around something." },
  {
    tool: "polygon",
    name: "Polygon",
    path: "M12 3l9 7-4 10H7L3 10z",
    hint: "Click corner by corner; click the first one again to close.",
  },
  { tool: "scribble", name: "Scribble", path: "M3 17c4-12 6 4 9-4s5-7 9-4", hint: "Draw a line over something." },
  {
    tool: "points",
    name: "Points",
    path: "M12 12m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M12 2v4M12 18v4M2 12h4M18 12h4",
    hint: "Click on something; its outline is found. More clicks refine it.",
  },
  { tool: "select", name: "Select", path: "M6 3l12 9-6 1-3 6z", hint: "Click a region; drag it or its corners." },
];

export function Toolbar() {
  const prompts = card.value?.capabilities.prompts;
  const offered = TOOLS.filter((each) => each.tool === "select" || !prompts || prompts.includes(each.tool));
  return (
    <div class="toolbar">
      <fieldset class="segments">
        <legend class="sr-only">Draw with</legend>
        {offered.map((each) => (
          <label key={each.tool}>
            <input
              type="radio"
              name="tool"
              value={each.tool}
              checked={tool.value === each.tool}
              onChange={() => {
                tool.value = each.tool;
              }}
            />
            <span>
              <Icon path={each.path} />
              {each.name}
            </span>
          </label>
        ))}
      </fieldset>
      <Actions />
      <p class="sr-only" id="stage-help">
        {hintOf(tool.value)} {KEYS}
      </p>
      {tool.value === "points" && <Sign />}
    </div>
  );
}

const hintOf = (chosen: Tool): string => TOOLS.find((each) => each.tool === chosen)?.hint ?? "";

const KEYS =
  "With the keyboard: arrow keys move a crosshair, Shift for larger and Alt for smaller steps; Enter puts down a corner, a point, or the beginning and end of a line; F closes a polygon; minus puts a point beside the object; Delete removes the selected region; Escape stops; Control Z undoes.";

function Sign() {
  return (
    <fieldset class="segments small">
      <legend class="sr-only">The next point is</legend>
      {[true, false].map((positive) => (
        <label key={String(positive)}>
          <input
            type="radio"
            name="sign"
            checked={pointSign.value === positive}
            onChange={() => {
              pointSign.value = positive;
            }}
          />
          <span>{positive ? "+ on it" : "− not it"}</span>
        </label>
      ))}
      <button
        type="button"
        disabled={selected.value?.prompt.kind !== "points"}
        onClick={() => {
          selectedKey.value = null;
        }}
      >
        Next object
      </button>
    </fieldset>
  );
}

function Actions() {
  const step = (change: () => void) => () => {
    change();
    describeSoon();
  };
  const halt = () => {
    stop();
    notice.value = "Stopped.";
  };
  const none = regions.value.length === 0;
  return (
    <div class="actions">
      <button
        type="button"
        class="icon"
        title="Undo (Ctrl+Z)"
        aria-label="Undo"
        disabled={!canUndo.value}
        onClick={step(undo)}
      >
        <Icon path="M8 5L3 10l5 5M3 10h11a6 6 0 0 1 0 12h-3" />
      </button>
      <button
        type="button"
        class="icon"
        title="Redo (Ctrl+Y)"
        aria-label="Redo"
        disabled={!canRedo.value}
        onClick={step(redo)}
      >
        <Icon path="M16 5l5 5-5 5M21 10H10a6 6 0 0 0 0 12h3" />
      </button>
      <button
        type="button"
        class="icon"
        title="Remove the selected region (Delete)"
        aria-label="Remove the selected region"
        disabled={!selected.value}
        onClick={() => selectedKey.value && remove(selectedKey.value)}
      >
        <Icon path="M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13" />
      </button>
      <button type="button" disabled={none} onClick={clear}>
        Clear
      </button>
      {busy.value ? (
        <button type="button" class="primary" onClick={halt}>
          Stop
        </button>
      ) : (
        <button type="button" class="primary" disabled={none} onClick={() => void describe(regions.value)}>
          Describe
        </button>
      )}
    </div>
  );
}

export function Icon({ path }: { path: string }) {
  return (
    <svg viewBox="0 0 24 24" width="18" height="18" class="glyph" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}

export function Status() {
  return (
    <p class={`status${busy.value ? " busy" : ""}`} role="status">
      {waiting.value ?? (notice.value || hintOf(tool.value))}
    </p>
  );
}
