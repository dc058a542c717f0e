// Where images come from: samples, a file, drag and drop, the clipboard, an address, the camera of a phone.
import { useEffect, useState } from "preact/hooks";
import { openAddress, openFile, openSample } from "../actions";
import { picture, problem, SAMPLES } from "../state";

const TYPES = "image/jpeg,image/png,image/webp,image/gif,image/bmp,image/avif";

export function Sources() {
  const [dragging, setDragging] = useState(false);
  useEffect(() => listenForFiles(setDragging), []);
  return (
    <section class="sources" aria-label="Choose an image">
      <ul class="samples" aria-label="Samples">
        {SAMPLES.map((sample) => (
          <li key={sample.id}>
            <button
              type="button"
              aria-pressed={picture.value?.sample === sample}
              title={`${sample.title} (${sample.kind})`}
              onClick={() => void openSample(sample)}
            >
              <img src={`static/samples/${sample.file}`} alt={`Sample: ${sample.title}`} width="64" height="48" />
            </button>
          </li>
        ))}
      </ul>
      <div class="own">
        <FileButton label="Open an image" />
        <FileButton label="Camera" camera />
        <Address />
        <span class="quiet wide-only">or drop or paste one</span>
      </div>
      {dragging && <div class="drop-here">Drop the image anywhere</div>}
      {problem.value?.about === "image" && (
        <p class="error" role="alert">
          {problem.value.problem.detail}
        </p>
      )}
    </section>
  );
}

function FileButton({ label, camera = false }: { label: string; camera?: boolean }) {
  return (
    <label class={`button${camera ? " camera" : ""}`}>
      {label}
      <input
        type="file"
        class="sr-only"
        accept={TYPES}
        {...(camera ? { capture: "environment" } : {})}
        onChange={(event) => {
          const [file] = event.currentTarget.files ?? [];
          event.currentTarget.value = "";
          if (file) void openFile(file, file.name);
        }}
      />
    </label>
  );
}

/** The service fetches the image, where its settings allow the host; the page itself asks no other host. */
function Address() {
  const [text, setText] = useState("");
  return (
    <details class="address">
      <summary class="button">Address</summary>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim()) void openAddress(text.trim());
        }}
      >
        <label>
          The service fetches it, if its settings allow the host
          <input
            type="url"
            required
            placeholder="https://…"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <button type="submit">Fetch</button>
      </form>
    </details>
  );
}

function listenForFiles(setDragging: (on: boolean) => void): () => void {
  const first = (list: FileList | undefined): File | undefined =>
    [...(list ?? [])].find((file) => file.type.startsWith("image/") || !file.type);
  const over = (event: DragEvent) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    setDragging(true);
  };
  const leave = (event: DragEvent) => {
    if (!event.relatedTarget) setDragging(false);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setDragging(false);
    const file = first(event.dataTransfer?.files);
    if (file) void openFile(file, file.name);
  };
  const paste = (event: ClipboardEvent) => {
    const file = first(event.clipboardData?.files);
    if (file) void openFile(file, "pasted image");
  };
  window.addEventListener("dragover", over);
  window.addEventListener("dragleave", leave);
  window.addEventListener("drop", drop);
  window.addEventListener("paste", paste);
  return () => {
    window.removeEventListener("dragover", over);
    window.removeEventListener("dragleave", leave);
    window.removeEventListener("drop", drop);
    window.removeEventListener("paste", paste);
  };
}

export function Credit() {
  const sample = picture.value?.sample;
  if (!sample) return null;
  return (
    <p class="credit">
      {sample.kind === "drawing" ? "Drawing" : "Photograph"}: {sample.credit}, {sample.licence}
    </p>
  );
}
