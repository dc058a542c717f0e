// The playground: the page at /. Its parts share the signals of state.ts, history.ts and settings.ts.
import "@annotorious/annotorious/annotorious.css";
import { effect } from "@preact/signals";
import { render } from "preact";
import { loadModel, openSample } from "./actions";
import { Code } from "./panels/Code";
import { Conversation } from "./panels/Conversation";
import { Find } from "./panels/Find";
import { Header } from "./panels/Header";
import { Results } from "./panels/Results";
import { SettingsPanel } from "./panels/Settings";
import { Credit, Sources } from "./panels/Sources";
import { Status, Toolbar } from "./panels/Toolbar";
import { Views } from "./panels/Views";
import { keepInAddress, settings, settingsOf } from "./settings";
import { historyKey } from "./stage/pointing";
import { Stage } from "./stage/Stage";
import { card, picture, SAMPLES, tool } from "./state";
import "./styles/base.css";
import "./styles/stage.css";
import "./styles/panels.css";
import "./styles/conversation.css";

function Playground() {
  return (
    <>
      <Header />
      <main>
        <div class="left">
          <Sources />
          <Toolbar />
          <Stage />
          <div class="under">
            <Status />
            <Credit />
          </div>
          <Find />
          <Views />
        </div>
        <div class="right">
          <Conversation />
          <Results />
          <SettingsPanel />
          <Code />
        </div>
      </main>
    </>
  );
}

const restored = settingsOf(window.location.hash);
settings.value = restored.settings;
const [first] = SAMPLES;
const sample = SAMPLES.find(({ id }) => id === restored.sample) ?? first;
if (sample) void openSample(sample);
keepInAddress(() => {
  const shown = picture.value?.sample;
  return shown && shown !== first ? shown.id : null;
});
void loadModel();
window.addEventListener("keydown", historyKey, true);
// A tool that the model does not take is never left chosen.
effect(() => {
  const prompts = card.value?.capabilities.prompts;
  if (prompts && tool.peek() !== "select" && !prompts.includes(tool.peek())) tool.value = "box";
});

const root = document.getElementById("app");
if (root) render(<Playground />, root);
