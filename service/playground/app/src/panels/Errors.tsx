// What the service refused, beside what caused it: the pointers of its problem documents say where.
import { flawsAt, problem } from "../state";

const PLACED = [
  "/names",
  "/phrase",
  "/threshold",
  "/max_regions",
  "/task",
  "/vocabulary",
  "/language",
  "/controls",
  "/controls_only",
  "/top_k",
  "/thresholds",
  "/num_captions",
  "/max_words",
  "/explain",
];

/** The flaws of these fields. In a request that finds, the same fields stand below /describe. */
export function Errors({ about, at }: { about: "describe" | "find" | "both"; at: string[] }) {
  const flaws = [
    ...(about === "find" ? [] : flawsAt("describe", ...at)),
    ...(about === "describe" ? [] : flawsAt("find", ...at, ...at.map((pointer) => `/describe${pointer}`))),
  ];
  return (
    <>
      {flaws.map(({ pointer, detail }) => (
        <p key={pointer + detail} class="error" role="alert">
          {detail}
        </p>
      ))}
    </>
  );
}

/** The problem as a whole, with those of its flaws that no field of the page shows. */
export function ProblemBox() {
  const last = problem.value;
  if (!last || last.about === "image" || last.problem.status === 401) return null;
  const flaws = last.problem.errors ?? [];
  const unplaced = flaws.filter(({ pointer }) => {
    const plain = pointer.replace(/^\/describe/, "");
    return !/^\/regions\/\d+/.test(plain) && !PLACED.some((each) => plain === each || plain.startsWith(`${each}/`));
  });
  return (
    <div class="problem" role="alert">
      <strong>{last.problem.title}</strong>
      {flaws.length === 0 && <p>{last.problem.detail}</p>}
      {flaws.length > unplaced.length && <p>What is wrong is marked at its place.</p>}
      {unplaced.map(({ pointer, detail }) => (
        <p key={pointer + detail}>
          <code>{pointer}</code> {detail}
        </p>
      ))}
    </div>
  );
}
