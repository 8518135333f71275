// What the kernel knows of a run: its timeline, its tool calls, what the skill printed.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Run, Span, ToolCall } from "./api";
import { Fact } from "./parts";
import { duration, timeline, type Row } from "./trace";

/** `toolsShown`: that tools were called was seen already; there may still be what they were given. */
export function RecordView({ run, toolsShown = false }: { run: Run; toolsShown?: boolean }): JSX.Element {
  const calls = run.tool_calls.filter((call) => !toolsShown || call.arguments !== null || call.result !== null);
  return (
    <>
      <dl class="facts">
        <Fact name="Tokens">
          {run.tokens.input} in, {run.tokens.output} out
        </Fact>
        <Fact name="Time in the kernel">{duration(run.seconds)}</Fact>
        <Fact name="Run">
          <code>{run.id}</code>
        </Fact>
        {run.trace_id && (
          <Fact name="Trace">
            <code>{run.trace_id}</code>
          </Fact>
        )}
      </dl>
      {calls.length > 0 && <ToolCalls calls={calls} />}
      {run.logs.length > 0 && <Logs run={run} />}
      <Timeline spans={run.spans} dropped={run.dropped_spans} />
    </>
  );
}

function ToolCalls({ calls }: { calls: ToolCall[] }): JSX.Element {
  return (
    <section aria-label="Tool calls in the kernel">
      <h3>Tool calls</h3>
      <ul class="plain">
        {calls.map((call, index) => (
          <li key={index}>
            <code>{call.name}</code> {duration(call.seconds)} {call.error && <span class="error">{call.error}</span>}
            {call.arguments && <pre>{call.arguments}</pre>}
            {call.result && <pre>{call.result}</pre>}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Logs({ run }: { run: Run }): JSX.Element {
  return (
    <section aria-label="Log of the skill">
      <h3>Log of the skill</h3>
      <pre tabIndex={0}>{run.logs.map(({ text }) => `${text}\n`).join("")}</pre>
      {run.dropped_logs > 0 && <p class="quiet">{run.dropped_logs} further lines are in the kernel's log.</p>}
    </section>
  );
}

function Timeline({ spans, dropped }: { spans: Span[]; dropped: number }): JSX.Element {
  const { rows, seconds } = timeline(spans, Date.now() / 1000);
  const [open, setOpen] = useState<string | null>(null);
  return (
    <section aria-label="Timeline">
      <h3>Timeline</h3>
      <div class="scroll" tabIndex={0} role="group" aria-label="Table of spans">
        <table class="timeline">
          <caption class="visually-hidden">Spans of the run, {duration(seconds)} in all</caption>
          <thead>
            <tr>
              <th scope="col">Span</th>
              <th scope="col" class="number">
                Took
              </th>
              <th scope="col">When</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <SpanRow
                key={row.span.span_id}
                row={row}
                seconds={seconds}
                open={open === row.span.span_id}
                toggle={() => setOpen(open === row.span.span_id ? null : row.span.span_id)}
              />
            ))}
          </tbody>
        </table>
      </div>
      {dropped > 0 && <p class="quiet">{dropped} further spans were not kept.</p>}
    </section>
  );
}

function SpanRow(props: { row: Row; seconds: number; open: boolean; toggle: () => void }): JSX.Element {
  const { span, depth, offset, width } = props.row;
  const foreign = span.service !== "pharia-kernel";
  return (
    <>
      <tr>
        <th scope="row">
          <button type="button" class="span" aria-expanded={props.open} style={{ paddingLeft: `${depth}rem` }} onClick={props.toggle}>
            {span.name}
            {foreign && <span class="quiet"> {span.service}</span>}
            {span.failed && <span class="error"> failed</span>}
          </button>
        </th>
        <td class="number">{duration(span.seconds)}</td>
        <td class="bar-cell">
          <span class="visually-hidden">after {duration(offset * props.seconds)}</span>
          <svg aria-hidden="true" width="100%" height="12">
            <rect
              class={span.failed ? "failed" : foreign ? "foreign" : ""}
              x={`${offset * 100}%`}
              width={`${Math.max(width * 100, 0.4)}%`}
              height="12"
              rx="2"
            />
          </svg>
        </td>
      </tr>
      {props.open && (
        <tr>
          <td colSpan={3}>
            <SpanFacts span={span} />
          </td>
        </tr>
      )}
    </>
  );
}

function SpanFacts({ span }: { span: Span }): JSX.Element {
  return (
    <dl class="facts">
      <Fact name="Kind">{span.kind}</Fact>
      {span.status && <Fact name="Status">{span.status}</Fact>}
      {Object.entries(span.attributes).map(([key, value]) => (
        <Fact key={key} name={key}>
          <code>{String(value)}</code>
        </Fact>
      ))}
      {span.events.map((event, index) => (
        <Fact key={index} name={event.name}>
          <code>{JSON.stringify(event.attributes)}</code>
        </Fact>
      ))}
    </dl>
  );
}
