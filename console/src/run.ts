// One run as the page sees it: what came so far, and how it ended.
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import type { Json } from "./json";
import { newTrace } from "./trace";

export interface ToolUse {
  name: string;
  state: "running" | "done" | "failed";
  message: string | null;
}

export interface Message {
  text: string;
  payload: Json | undefined;
}

export interface Outcome {
  state: "running" | "done" | "failed" | "cancelled";
  path: string;
  input: string;
  began: number;
  seconds: number | null;
  output: Json | undefined;
  messages: Message[];
  reasoning: string;
  tools: ToolUse[];
  problem: api.Problem | null;
  /** What the kernel knows of it, once it is over. */
  record: api.Run | null;
}

function begin(path: string, input: string): Outcome {
  return {
    state: "running",
    path,
    input,
    began: Date.now(),
    seconds: null,
    output: undefined,
    messages: [],
    reasoning: "",
    tools: [],
    problem: null,
    record: null,
  };
}

/** The outcome after one more event of the stream. */
export function after(outcome: Outcome, event: api.StreamEvent): Outcome {
  switch (event.event) {
    case "reasoning":
      return { ...outcome, reasoning: appended(outcome.reasoning, event.text) };
    case "tool":
      return { ...outcome, tools: toolsAfter(outcome.tools, event) };
    case "message":
      return { ...outcome, messages: messagesAfter(outcome.messages, event) };
    default:
      return outcome;
  }
}

function toolsAfter(tools: ToolUse[], event: Extract<api.StreamEvent, { event: "tool" }>): ToolUse[] {
  if (event.type === "begin") return [...tools, { name: event.name, state: "running", message: null }];
  const index = tools.findIndex((tool) => tool.name === event.name && tool.state === "running");
  const ended: ToolUse = {
    name: event.name,
    state: event.type === "end" ? "done" : "failed",
    message: event.type === "error" ? event.message : null,
  };
  return index < 0 ? [...tools, ended] : tools.map((tool, i) => (i === index ? ended : tool));
}

function messagesAfter(
  messages: Message[],
  event: Extract<api.StreamEvent, { event: "message" }>,
): Message[] {
  if (event.type === "begin") return [...messages, { text: "", payload: undefined }];
  const last = messages.at(-1) ?? { text: "", payload: undefined };
  const changed =
    event.type === "append"
      ? { ...last, text: appended(last.text, event.text) }
      : { ...last, payload: event.payload };
  return [...messages.slice(0, -1), changed];
}

export interface Runner {
  outcome: Outcome | null;
  earlier: Outcome[];
  start: (path: string, body: string, stream: boolean) => void;
  cancel: () => void;
}

const KEPT = 20;
const FRAME = 30;
/** Characters of a message, or of reasoning, that are shown: the last ones. */
const SHOWN = 200_000;

function appended(text: string, more: string): string {
  const whole = text + more;
  // Cut now and then, not at every word.
  return whole.length > 2 * SHOWN ? `…${whole.slice(-SHOWN)}` : whole;
}

export function useRunner(): Runner {
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const [earlier, setEarlier] = useState<Outcome[]>([]);
  const controller = useRef<AbortController | null>(null);
  useEffect(() => () => controller.current?.abort(), []);

  const start = (path: string, body: string, stream: boolean): void => {
    controller.current?.abort();
    const abort = (controller.current = new AbortController());
    let current = begin(path, body);
    let drawing = false;
    const draw = (): void => {
      drawing = false;
      if (controller.current === abort) setOutcome(current);
    };
    // A skill can write faster than a page can be drawn.
    const show = (next: Outcome): void => {
      current = next;
      if (drawing) return;
      drawing = true;
      setTimeout(draw, FRAME);
    };
    draw();
    void perform(current, body, stream, abort.signal, show).then((ended) => {
      current = ended;
      draw();
      setEarlier((others) => [ended, ...others].slice(0, KEPT));
    });
  };
  return { outcome, earlier, start, cancel: () => controller.current?.abort() };
}

async function perform(
  begun: Outcome,
  body: string,
  stream: boolean,
  signal: AbortSignal,
  show: (outcome: Outcome) => void,
): Promise<Outcome> {
  const trace = newTrace();
  let outcome = begun;
  const update = (changed: Partial<Outcome>): void => show((outcome = { ...outcome, ...changed }));
  const elapsed = (): number => (Date.now() - begun.began) / 1000;
  try {
    if (stream) {
      for await (const event of api.runStream(begun.path, body, trace.traceparent, signal)) {
        update(after(outcome, event));
      }
    } else {
      update({ output: await api.runFunction(begun.path, body, trace.traceparent, signal) });
    }
    update({ state: "done", seconds: elapsed() });
  } catch (error) {
    const cancelled = signal.aborted;
    update({
      state: cancelled ? "cancelled" : "failed",
      seconds: elapsed(),
      problem: cancelled ? null : api.problemOf(error),
    });
  }
  const record = await recordOf(trace.id);
  if (record) update({ record });
  return outcome;
}

const ATTEMPTS = 5;

/** None if the kernel keeps no runs, or this one may not be seen. */
async function recordOf(traceId: string): Promise<api.Run | null> {
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const [found] = await api.runs(`?trace_id=${traceId}`);
      if (!found) return null;
      // A run that was cancelled ends a moment after the browser has hung up.
      if (found.outcome !== null || attempt === ATTEMPTS - 1) return await api.run(found.id);
      await new Promise((resolve) => setTimeout(resolve, 100 * (attempt + 1)));
    }
  } catch {
    // The run itself was shown; this is only more about it.
  }
  return null;
}
