// A caption whose words say, when pointed at, what supports them: a label with its score, and the view that carried it.
import type { ExplainedWord, RegionAnswer } from "../contract";
import { hoveredView, hoveredWord, selectedKey } from "../state";

export function Caption({ answer, regionKey }: { answer: RegionAnswer; regionKey: string }) {
  const caption = answer.caption;
  if (!caption) {
    const first = answer.categories?.[0]?.name ?? answer.tags?.map(({ name }) => name).join(", ") ?? answer.label;
    return <p class="caption plain">{first ?? "nothing above the thresholds"}</p>;
  }
  const words = answer.explanation?.words ?? [];
  const pointed = hoveredWord.value?.key === regionKey ? words[hoveredWord.value.index] : undefined;
  return (
    <>
      <p class="caption">
        {pieces(caption.text, words).map(({ text, index }) =>
          index === null ? (
            text
          ) : (
            <Word key={index} text={text} word={words[index]} index={index} regionKey={regionKey} />
          ),
        )}
      </p>
      {pointed ? <Support word={pointed} /> : caption.probability !== undefined && <Name answer={answer} />}
      {(caption.candidates?.length ?? 0) > 1 && (
        <ol class="other-captions" aria-label="Other captions">
          {caption.candidates?.slice(1).map(({ text, score }) => (
            <li key={text}>
              {text} <span class="quiet">{score.toPrecision(2)}</span>
            </li>
          ))}
        </ol>
      )}
    </>
  );
}

function Name({ answer: { caption } }: { answer: RegionAnswer }) {
  if (!caption?.name || caption.probability === undefined) return null;
  return (
    <p class="support">
      {caption.name}: {(caption.probability * 100).toFixed(0)} % sure
    </p>
  );
}

interface Piece {
  text: string;
  index: number | null; // of the explained word, or null for text between
}

/** Spans are by their start; of two that overlap, the first is taken. */
export function pieces(text: string, words: readonly { span: readonly [number, number] }[]): Piece[] {
  const cut: Piece[] = [];
  let at = 0;
  words.forEach(({ span: [start, end] }, index) => {
    if (start < at) return;
    if (start > at) cut.push({ text: text.slice(at, start), index: null });
    cut.push({ text: text.slice(start, end), index });
    at = end;
  });
  if (at < text.length) cut.push({ text: text.slice(at), index: null });
  return cut;
}

interface WordProperties {
  text: string;
  word: ExplainedWord | undefined;
  index: number;
  regionKey: string;
}

function Word({ text, word, index, regionKey }: WordProperties) {
  const point = () => {
    hoveredWord.value = { key: regionKey, index };
    hoveredView.value = word?.carried_by === "view" ? (word.view ?? null) : null;
  };
  // The pointer alone selects nothing: cards would open and close under it.
  const select = () => {
    selectedKey.value = regionKey;
    point();
  };
  const leave = () => {
    hoveredWord.value = null;
    hoveredView.value = null;
  };
  return (
    <button
      type="button"
      class={`word${word?.supported ? "" : " unsupported"}`}
      aria-describedby={`support-${regionKey}`}
      onPointerEnter={point}
      onPointerLeave={leave}
      onFocus={select}
      onBlur={leave}
      onClick={select}
    >
      {text}
    </button>
  );
}

function Support({ word }: { word: ExplainedWord }) {
  const { support } = word;
  if (!support) {
    return <p class="support">“{word.text}”: no tag, attribute or category of the model supports this word.</p>;
  }
  const sure = support.probability === undefined ? "" : `, ${(support.probability * 100).toFixed(0)} % sure`;
  const drop = word.left_out?.find(({ t }) => t === word.view)?.drop;
  return (
    <p class="support">
      <b>{word.text}</b>: {word.supported ? "supported by" : "only weakly supported by"} {support.task} “{support.name}
      ”, score {support.score.toFixed(2)}
      {sure}.{" "}
      {word.carried_by === "view" && word.view !== undefined && (
        <>
          Seen in view t = {word.view}
          {word.view > 0 && drop !== undefined ? `: without it the log odds fall by ${drop.toFixed(1)}` : ""}.
        </>
      )}
      {word.carried_by === "evidence" && <>Seen by the two networks for photographs, in crops of their own.</>}
    </p>
  );
}
