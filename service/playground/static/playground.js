// The playground: an image, boxes drawn with the mouse, one request, the response drawn and shown as JSON.
// All addresses are relative to the page, so that it works behind any path prefix.
const COLOURS = ["#ff7a59", "#2f9e8f", "#6c5ce7", "#e0a100", "#d6336c", "#1c7ed6", "#5c940d", "#9c36b5"];
const SMALLEST_BOX = 4; // pixels of the image; a smaller one is taken for an accidental click

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");
const context = canvas.getContext("2d");
const state = { file: null, bitmap: null, boxes: [], drawing: null, answer: null };

const colour = (index) => COLOURS[index % COLOURS.length];

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function showStatus(text, bad = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("bad", bad);
}

// --- image and boxes ----------------------------------------------------------------------------------------------

async function open(file) {
  if (!file) return;
  try {
    // Browsers apply the EXIF orientation here, as the service does: both mean the upright image.
    state.bitmap = await createImageBitmap(file);
  } catch {
    showStatus("The browser cannot show this file as an image.", true);
    return;
  }
  state.file = file;
  canvas.width = state.bitmap.width;
  canvas.height = state.bitmap.height;
  canvas.style.setProperty("--shape", canvas.width / canvas.height);
  canvas.hidden = false;
  byId("invitation").hidden = true;
  byId("drop").classList.add("filled");
  showStatus("");
  setBoxes([]);
}

function setBoxes(boxes) {
  state.boxes = boxes;
  state.answer = null;
  byId("results").replaceChildren();
  byId("raw").hidden = true;
  refresh();
}

function refresh() {
  byId("clear").disabled = byId("go").disabled = !state.boxes.length;
  byId("hint").textContent = state.bitmap
    ? `${state.bitmap.width} × ${state.bitmap.height} px; drag to draw a box`
    : "";
  paint();
}

function strokeBox([x1, y1, x2, y2], stroke, width, dash = []) {
  context.strokeStyle = stroke;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

function paint() {
  if (!state.bitmap) return;
  const unit = Math.max(canvas.width, canvas.height) / 400; // so that lines look the same on small and large images
  context.setLineDash([]);
  context.drawImage(state.bitmap, 0, 0);
  if (byId("show-views").checked && state.answer) {
    state.answer.regions.forEach((region, index) => {
      for (const view of viewsOf(region)) {
        if (view.t > 0) strokeBox(view.box, colour(index), unit * 0.7, [unit * 3, unit * 2]);
      }
    });
  }
  const boxes = state.drawing ? [...state.boxes, state.drawing] : state.boxes;
  boxes.forEach((box, index) => {
    strokeBox(box, "#fff", unit * 2.2);
    strokeBox(box, colour(index), unit * 1.4);
    context.font = `600 ${unit * 9}px system-ui, sans-serif`;
    const text = captionOf(index);
    const top = Math.max(0, box[1] - unit * 13);
    context.fillStyle = colour(index);
    context.fillRect(box[0], top, context.measureText(text).width + unit * 6, unit * 13);
    context.fillStyle = "#fff";
    context.fillText(text, box[0] + unit * 3, top + unit * 9.8);
  });
}

function captionOf(index) {
  const region = state.answer?.regions[index];
  return region?.caption?.text ?? region?.categories?.[0]?.name ?? String(index);
}

function viewsOf(region) {
  const own = [region.caption, region.tags?.[0], region.attributes?.[0], region.categories?.[0]];
  return region.views ?? own.flatMap((result) => result?.views ?? []);
}

function pointAt(event) {
  const frame = canvas.getBoundingClientRect();
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  return [
    clamp(((event.clientX - frame.left) / frame.width) * canvas.width, canvas.width),
    clamp(((event.clientY - frame.top) / frame.height) * canvas.height, canvas.height),
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  const start = pointAt(event);
  if (state.answer) setBoxes(state.boxes);
  const move = (moved) => {
    const [x, y] = pointAt(moved);
    state.drawing = [Math.min(start[0], x), Math.min(start[1], y), Math.max(start[0], x), Math.max(start[1], y)];
    paint();
  };
  const finish = () => {
    canvas.removeEventListener("pointermove", move);
    const box = state.drawing;
    state.drawing = null;
    const large = box && box[2] - box[0] >= SMALLEST_BOX && box[3] - box[1] >= SMALLEST_BOX;
    if (large) state.boxes.push(box.map((value) => Math.round(value * 10) / 10));
    refresh();
  };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", finish, { once: true });
});

// --- request and response ----------------------------------------------------------------------------------------

function requestFields() {
  const form = new FormData(byId("form"));
  const words = byId("controls").value.split(",").map((word) => word.trim()).filter(Boolean);
  return {
    regions: state.boxes.map((box) => ({ box })),
    task: form.get("mode") === "all" ? null : form.getAll("task"),
    controls: words,
    top_k: Number(byId("top-k").value) || 5,
  };
}

async function submit(event) {
  event.preventDefault();
  byId("go").disabled = true;
  showStatus("Describing …");
  const body = new FormData();
  body.append("image", state.file);
  body.append("request", new Blob([JSON.stringify(requestFields())], { type: "application/json" }));
  try {
    const response = await fetch("v1/describe", { method: "POST", body });
    const answer = await response.json();
    if (response.ok) showAnswer(answer);
    else showStatus([answer.detail, ...(answer.errors ?? []).map((each) => `${each.pointer} ${each.detail}`)].join(" · "), true);
  } catch {
    showStatus("The service did not respond.", true);
  }
  byId("go").disabled = !state.boxes.length;
}

function showAnswer(answer) {
  state.answer = answer;
  showStatus(`Described in ${answer.timings_ms.total.toFixed(0)} ms.`);
  byId("results").replaceChildren(...answer.regions.map(card));
  byId("json").textContent = JSON.stringify(answer, null, 2);
  byId("raw").hidden = false;
  paint();
}

function card(region, index) {
  const made = element("article", "", "region");
  made.style.setProperty("--mark", colour(index));
  const box = region.box.map((value) => Math.round(value)).join(", ");
  made.append(element("h2", `Region ${region.id} · ${box}${region.clipped ? " · clipped" : ""}`));
  if (region.caption) made.append(element("p", region.caption.text || "(no caption)", "caption"));
  for (const task of ["tags", "attributes", "categories"]) {
    if (!region[task]) continue;
    made.append(element("h3", task));
    if (!region[task].length) made.append(element("p", "none above the threshold", "quiet"));
    made.append(...region[task].map(labelRow));
  }
  return made;
}

function labelRow(label) {
  const row = element("div", "", "label");
  const bar = element("progress");
  bar.max = 1;
  bar.value = label.probability;
  row.append(element("span", label.name), bar, element("span", `${(label.probability * 100).toFixed(0)} %`));
  return row;
}

async function showModel() {
  const response = await fetch("v1/models");
  if (!response.ok) {
    showStatus("The model is still being loaded …");
    setTimeout(showModel, 1000);
    return;
  }
  const [model] = (await response.json()).models;
  const millions = (model.parameters / 1e6).toFixed(1);
  byId("card").replaceChildren(
    element("strong", `${model.name} · ${millions} M parameters · ${model.device}`),
    element("p", `Trained on: ${model.trained_on}`),
    element("p", `Intended use: ${model.intended_use}`),
  );
  if (!state.answer) showStatus("");
}

// --- wiring ------------------------------------------------------------------------------------------------------

byId("file").addEventListener("change", (event) => open(event.target.files[0]));
byId("clear").addEventListener("click", () => setBoxes([]));
byId("show-views").addEventListener("change", paint);
byId("form").addEventListener("submit", submit);
byId("tasks").addEventListener("change", () => (document.querySelector("[name=mode][value=some]").checked = true));

const drop = byId("drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  open(event.dataTransfer.files[0]);
});

showModel();
