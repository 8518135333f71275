// What a run has brought so far.
import type { JSX } from "preact";
import { pretty } from "./json";
import { ProblemView } from "./parts";
import { RecordView } from "./record";
import type { Outcome, ToolUse } from "./run";
import { duration } from "./trace";

/** For screen readers, who are told of the beginning and the end, and not of every word between. */
export function announcement(outcome: Outcome | null): string {
  switch (outcome?.state) {
    case "running":
      return "Running";
    case "done":
      return `Done in ${duration(outcome.seconds)}`;
    case "failed":
      return `Failed: ${outcome.problem?.title ?? ""}`;
    case "cancelled":
      return "Cancelled";
    default:
      return "";
  }
}

export function OutputView({ outcome }: { outcome: Outcome }): JSX.Element {
  const running = outcome.state === "running";
  return (
    <section class="card" aria-label="Result" aria-busy={running}>
      <h2>
        Result <span class={`badge ${TONES[outcome.state]}`}>{outcome.state}</span>{" "}
        {outcome.seconds !== null && <span class="quiet">{duration(outcome.seconds)}</span>}
      </h2>
      {outcome.reasoning && (
        <details open>
          <summary>Reasoning</summary>
          <p class="text reasoning">{outcome.reasoning}</p>
        </details>
      )}
      {outcome.tools.length > 0 && <Tools tools={outcome.tools} />}
      {outcome.messages.map((message, index) => (
        <div key={index} class="message">
          {message.text && <p class="text">{message.text}</p>}
          {message.payload !== undefined && message.payload !== null && <pre tabIndex={0}>{pretty(message.payload)}</pre>}
        </div>
      ))}
      {outcome.output !== undefined && (
        <pre class="output" tabIndex={0}>
          {typeof outcome.output === "string" ? outcome.output : pretty(outcome.output)}
        </pre>
      )}
      {outcome.problem && <ProblemView problem={outcome.problem} />}
      {outcome.record && <RecordView run={outcome.record} toolsShown={outcome.tools.length > 0} />}
    </section>
  );
}

const TONES = { running: "busy", done: "good", failed: "bad", cancelled: "busy" };

function Tools({ tools }: { tools: ToolUse[] }): JSX.Element {
  return (
    <div>
      <h3>Tools</h3>
      <ul class="plain tools">
        {tools.map((tool, index) => (
          <li key={index}>
            <code>{tool.name}</code> {tool.state}
            {tool.message && <span class="error"> {tool.message}</span>}
          </li>
        ))}
      </ul>
    </div>
  );
}
