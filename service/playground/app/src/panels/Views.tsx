// What the model looked at: the views of one region, each candidate with its thumbnail, distance and gain.
import type { ExplainedView, RegionAnswer, View } from "../contract";
import { viewsOf } from "../stage/Overlay";
import { explained, freshAnswer, hoveredView, indexOf, picture } from "../state";

const POLICIES: Record<string, string> = {
  image_prior:
    "chosen for this image: those whose fingerprint (a perceptual hash) differs most from that of the region, per step outwards",
  task_prior: "fixed by the task",
  fixed: "given by the request",
};

export function Views() {
  const region = explained.value;
  const answer = region ? freshAnswer(region) : null;
  const views = viewsOf(answer);
  return (
    <section class="views-panel" aria-labelledby="views-title">
      <h2 id="views-title">
        What the model looked at
        {region && answer ? <span class="quiet">region {indexOf(region.key) + 1}</span> : null}
        {views.some(({ view }) => "distance" in view) && <Legend />}
      </h2>
      <p class="lead">
        A <b>view</b> is a crop between the region itself (<i>t</i> = 0) and the whole image (<i>t</i> = 1). The model
        sees {views.length ? `these ${views.filter((each) => each.chosen).length}` : "a few"} at once: what something
        is, and where.
      </p>
      {views.length > 0 && <Strip views={views} />}
      {answer && <Policy answer={answer} />}
    </section>
  );
}

function Legend() {
  return (
    <span class="strip-legend" aria-hidden="true">
      <span class="key gain">gain</span>
      <span class="key distance">distance</span>
    </span>
  );
}

function Policy({ answer }: { answer: RegionAnswer }) {
  const priors = answer.explanation?.priors ?? [];
  if (!priors.length) return <p class="quiet">Switch on “explain” to see which others came into question, and why.</p>;
  return (
    <>
      {priors.map((prior) => (
        <p key={prior.tasks.join()} class="quiet">
          {prior.tasks.length > 1 ? "For all outputs" : `For ${prior.tasks[0]}`}: t {prior.t.join(", ")},{" "}
          {POLICIES[prior.policy] ?? prior.policy}.
        </p>
      ))}
    </>
  );
}

function Strip({ views }: { views: { view: View | ExplainedView; chosen: boolean }[] }) {
  const gains = views.map(({ view }) => ("gain" in view ? (view.gain ?? 0) : 0));
  const distances = views.map(({ view }) => ("distance" in view ? view.distance : 0));
  const [mostGain, mostDistance] = [Math.max(...gains, 1e-9), Math.max(...distances, 1)];
  return (
    <div class="strip-holder">
      <ul class="strip">
        {views.map(({ view, chosen }, index) => (
          <li key={view.t}>
            <button
              type="button"
              class={chosen ? "chosen" : "other"}
              aria-label={spoken(view, chosen)}
              aria-pressed={hoveredView.value === view.t}
              onPointerEnter={() => point(view.t)}
              onPointerLeave={() => point(null)}
              onFocus={() => point(view.t)}
              onBlur={() => point(null)}
              onClick={() => point(view.t)}
            >
              <Thumbnail view={view} />
              {"distance" in view && (
                <svg class="bars" viewBox="0 0 40 44" aria-hidden="true">
                  <rect
                    class="gain"
                    x="6"
                    width="13"
                    y={44 - (40 * (gains[index] ?? 0)) / mostGain}
                    height={(40 * (gains[index] ?? 0)) / mostGain}
                  />
                  <rect
                    class="distance"
                    x="21"
                    width="13"
                    y={44 - (40 * (distances[index] ?? 0)) / mostDistance}
                    height={(40 * (distances[index] ?? 0)) / mostDistance}
                  />
                </svg>
              )}
              <span class="t">t {view.t}</span>
              {"distance" in view && (
                <span class="numbers">
                  {view.gain === undefined ? "the region" : `${Math.round(view.gain)} · ${view.distance}`}
                </span>
              )}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

const point = (t: number | null): void => {
  hoveredView.value = t;
};

function spoken(view: View | ExplainedView, chosen: boolean): string {
  const numbers =
    "distance" in view && view.gain !== undefined
      ? `, distance ${view.distance} bits, gain ${Math.round(view.gain)}`
      : "";
  return `View t = ${view.t}${numbers}, ${chosen ? "chosen" : "not chosen"}`;
}

function Thumbnail({ view }: { view: View | ExplainedView }) {
  if ("thumbnail" in view && view.thumbnail) {
    return <img class="thumbnail" src={`data:image/webp;base64,${view.thumbnail}`} alt="" width="56" height="56" />;
  }
  return <Crop view={view} />;
}

/** Where no thumbnail came, the part of the image itself. */
function Crop({ view }: { view: View }) {
  const image = picture.value;
  if (!image) return null;
  const [left, top, right, bottom] = view.box;
  return (
    <svg
      class="thumbnail"
      viewBox={`${left} ${top} ${right - left} ${bottom - top}`}
      preserveAspectRatio="none"
      width="56"
      height="56"
      aria-hidden="true"
    >
      <image href={image.url} width={image.width} height={image.height} preserveAspectRatio="none" />
    </svg>
  );
}
