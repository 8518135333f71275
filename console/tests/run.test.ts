import { describe, expect, it } from "vitest";
import type { StreamEvent } from "../src/api";
import { after, type Outcome } from "../src/run";

const BEGUN: Outcome = {
  state: "running",
  path: "dev/a",
  input: "null",
  began: 0,
  seconds: null,
  output: undefined,
  messages: [],
  reasoning: "",
  tools: [],
  problem: null,
  record: null,
};

const all = (...events: StreamEvent[]): Outcome => events.reduce(after, BEGUN);

describe("after", () => {
  it("puts messages together", () => {
    const outcome = all(
      { event: "message", type: "begin" },
      { event: "message", type: "append", text: "Hel" },
      { event: "reasoning", text: "hm" },
      { event: "message", type: "append", text: "lo" },
      { event: "message", type: "end", payload: { n: 1 } },
      { event: "message", type: "begin" },
      { event: "message", type: "append", text: "Bye" },
    );
    expect(outcome.messages).toEqual([
      { text: "Hello", payload: { n: 1 } },
      { text: "Bye", payload: undefined },
    ]);
    expect(outcome.reasoning).toBe("hm");
  });

  it("pairs the begin and the end of tool calls", () => {
    const outcome = all(
      { event: "tool", type: "begin", name: "add" },
      { event: "tool", type: "begin", name: "add" },
      { event: "tool", type: "end", name: "add" },
      { event: "tool", type: "error", name: "add", message: "no" },
      { event: "tool", type: "error", name: "other", message: "unknown" },
    );
    expect(outcome.tools).toEqual([
      { name: "add", state: "done", message: null },
      { name: "add", state: "failed", message: "no" },
      { name: "other", state: "failed", message: "unknown" },
    ]);
  });

  it("does not mind events that it does not know", () => {
    expect(after(BEGUN, { event: "news" } as unknown as StreamEvent)).toBe(BEGUN);
  });
});
