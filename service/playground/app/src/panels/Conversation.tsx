// Questions about the image and its regions, with answers whose words belong to boxes on the image.
import { useRef } from "preact/hooks";
import { colourOf } from "../colours";
import type { GroundedSpan } from "../contract";
import {
  allowed,
  answering,
  ask,
  doubtOf,
  draft,
  hoveredSpan,
  indexNamed,
  nameOf,
  refusal,
  sameWords,
  spansIn,
  startAnew,
  stopAnswer,
  type Turn,
  turns,
} from "../conversation";
import { regions } from "../history";
import { card, ready, selectedKey } from "../state";
import { pieces } from "./Caption";

export function Conversation() {
  const answers = card.value?.capabilities.conversation;
  return (
    <section class="conversation" aria-labelledby="conversation-title" aria-busy={answering.value}>
      <h2 id="conversation-title">
        Ask about the image
        {turns.value.length > 0 && (
          <button type="button" class="anew" onClick={startAnew}>
            Start anew
          </button>
        )}
      </h2>
      {answers === false ? (
        <p class="quiet">
          This service answers no questions: it has no converser. Whoever runs it starts it with --converser or
          --converser-url.
        </p>
      ) : (
        <>
          {turns.value.length > 0 && (
            <ol class="turns">
              {turns.value.map((turn, index) => (
                <TurnItem key={index} turn={turn} index={index} />
              ))}
            </ol>
          )}
          <Question />
        </>
      )}
    </section>
  );
}

// --- one question and its answer ------------------------------------------------------------------------------------

function TurnItem({ turn, index }: { turn: Turn; index: number }) {
  const { question, text, answer } = turn;
  const grounding = answer?.message.grounding ?? [];
  const pointed = hoveredSpan.value?.turn === index ? grounding[hoveredSpan.value.index] : undefined;
  return (
    <li class="turn">
      <p class="question">
        <span class="sr-only">You: </span>
        <QuestionText text={question} />
      </p>
      <p class={`answer${answer ? "" : " waiting"}`}>
        <span class="sr-only">Answer: </span>
        {pieces(text, spansIn(text, grounding)).map((piece) => {
          const span = piece.index === null ? undefined : grounding[piece.index];
          if (piece.index === null || !span) return piece.text;
          const lit = pointed !== undefined && sameWords(span, pointed);
          return <Words key={piece.index} text={piece.text} span={span} turn={index} index={piece.index} lit={lit} />;
        })}
        {!answer && <span class="writing" aria-hidden="true" />}
        {answer?.finish_reason === "length" && <span class="quiet"> … (as long as was allowed)</span>}
      </p>
      {answer?.message.answers && <Choices answers={answer.message.answers} />}
      {grounding.length > 0 && <p class="support">{pointed ? said(pointed) : "Point at a word to see where it is."}</p>}
    </li>
  );
}

function said(span: GroundedSpan): string {
  const place = span.box.map((value) => Math.round(value)).join(", ");
  const sure = span.probability === undefined ? "" : `, ${(span.probability * 100).toFixed(0)} % sure`;
  const region = span.region === undefined ? "" : `, region ${span.region}`;
  const seen = span.verified ? " Verified: the region model sees it too." : "";
  return `Box ${place}${sure}${region}. ${doubtOf(span) ?? ""}${seen}`.trim();
}

interface WordsProperties {
  text: string;
  span: GroundedSpan;
  turn: number;
  index: number;
  lit: boolean;
}

function Words({ text, span, turn, index, lit }: WordsProperties) {
  const point = () => {
    hoveredSpan.value = { turn, index };
  };
  const leave = () => {
    hoveredSpan.value = null;
  };
  const doubt = doubtOf(span);
  return (
    <button
      type="button"
      class={`word${lit ? " pointed" : ""}${doubt ? " unsupported" : ""}`}
      title={doubt}
      aria-label={doubt ? `${text}: not verified` : undefined}
      onPointerEnter={point}
      onPointerLeave={leave}
      onFocus={point}
      onBlur={leave}
      onClick={point}
    >
      {text}
    </button>
  );
}

function Choices({ answers }: { answers: readonly { answer: string; probability: number }[] }) {
  return (
    <ul class="choices" aria-label="Probabilities of the answers">
      {answers.map(({ answer, probability }) => (
        <li key={answer} class="bar">
          <span class="name">{answer}</span>
          <svg class="track" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
            <rect width="100" height="8" class="back" />
            <rect width={probability * 100} height="8" class="fill" />
          </svg>
          <span class="number">{(probability * 100).toFixed(probability < 0.1 ? 1 : 0)} %</span>
        </li>
      ))}
    </ul>
  );
}

// --- the next question ----------------------------------------------------------------------------------------------

function Question() {
  const field = useRef<HTMLInputElement>(null);
  const insert = (key: string) => {
    const input = field.current;
    if (!input) return;
    const reference = `<region:${nameOf(key)}>`;
    const [start, end] = [input.selectionStart ?? input.value.length, input.selectionEnd ?? input.value.length];
    input.setRangeText(reference, start, end, "end");
    draft.value = input.value;
    selectedKey.value = key;
    input.focus();
  };
  return (
    <form
      class="ask"
      aria-label="Question"
      onSubmit={(event) => {
        event.preventDefault();
        void ask();
      }}
    >
      <label>
        <span class="sr-only">Question</span>
        <input
          ref={field}
          value={draft.value}
          autocomplete="off"
          placeholder="What is <region:1> standing on?"
          aria-invalid={refusal.value !== null}
          aria-describedby={refusal.value ? "ask-refusal" : undefined}
          onInput={(event) => {
            draft.value = event.currentTarget.value;
          }}
        />
      </label>
      <div class="row">
        {regions.value.map(({ key }, index) => (
          <button
            key={key}
            type="button"
            class="badge"
            style={{ "--mark": colourOf(index) }}
            title={`Insert <region:${nameOf(key)}> into the question`}
            aria-label={`Insert region ${index + 1} into the question`}
            onClick={() => insert(key)}
          >
            {index + 1}
          </button>
        ))}
        {answering.value ? (
          // The keys keep these two apart: one that became the other under a click would ask again.
          <button key="stop" type="button" class="primary send" onClick={stopAnswer}>
            Stop
          </button>
        ) : (
          <button key="ask" type="submit" class="primary send" disabled={!ready.value || !draft.value.trim()}>
            Ask
          </button>
        )}
      </div>
      <details>
        <summary>Only these answers</summary>
        <label>
          <span class="sr-only">Answers that are allowed, separated by commas</span>
          <input
            value={allowed.value}
            placeholder="yes, no"
            onInput={(event) => {
              allowed.value = event.currentTarget.value;
            }}
          />
        </label>
      </details>
      <Refusal />
    </form>
  );
}

/** A question, its references to regions as the numbers that they have on the image. */
function QuestionText({ text }: { text: string }) {
  return (
    <>
      {text.split(/(<region:[^<>]*>)/).map((part, place) => {
        const name = /^<region:([^<>]*)>$/.exec(part)?.[1];
        if (name === undefined) return part;
        const index = indexNamed(name);
        return (
          <span key={place} class="badge" style={{ "--mark": index < 0 ? "#526070" : colourOf(index) }}>
            <span class="sr-only">region </span>
            {name}
          </span>
        );
      })}
    </>
  );
}

function Refusal() {
  const problem = refusal.value;
  if (!problem) return null;
  const sentences = problem.errors?.length ? problem.errors.map(({ detail }) => detail) : [problem.detail];
  return (
    <div id="ask-refusal" role="alert">
      {sentences.map((sentence) => (
        <p key={sentence} class="error">
          {sentence}
        </p>
      ))}
    </div>
  );
}
