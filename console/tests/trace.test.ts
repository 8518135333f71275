import { describe, expect, it } from "vitest";
import type { Span } from "../src/api";
import { duration, newTrace, timeline } from "../src/trace";

function span(span_id: string, parent_id: string | null, began: number, seconds: number | null): Span {
  return { span_id, parent_id, began, seconds, name: span_id, kind: "internal", service: "s", failed: false, status: null, attributes: {}, events: [] };
}

describe("timeline", () => {
  it("is a tree in the order of time", () => {
    const { rows, seconds } = timeline(
      [span("c", "a", 6, 4), span("b", "a", 1, 2), span("a", "client", 0, 10), span("d", "b", 1, 1)],
      10,
    );
    expect(rows.map(({ span, depth }) => [span.span_id, depth])).toEqual([["a", 0], ["b", 1], ["d", 2], ["c", 1]]);
    expect(rows.map(({ offset, width }) => [offset, width])).toEqual([[0, 1], [0.1, 0.2], [0.1, 0.1], [0.6, 0.4]]);
    expect(seconds).toBe(10);
  });

  it("lets what goes on reach until now", () => {
    expect(timeline([span("a", null, 0, null)], 4)).toMatchObject({ seconds: 4, rows: [{ width: 1 }] });
  });

  it("survives spans that are their own parents, and none at all", () => {
    expect(timeline([span("a", "a", 0, 1)], 1).rows).toHaveLength(1);
    expect(timeline([span("a", "b", 0, 1), span("b", "a", 0, 1)], 1).rows).toHaveLength(0);
    expect(timeline([], 1)).toEqual({ rows: [], seconds: 0 });
  });
});

describe("newTrace", () => {
  it("is a W3C trace context", () => {
    const trace = newTrace();
    expect(trace.traceparent).toMatch(new RegExp(`^00-${trace.id}-[0-9a-f]{16}-01$`));
    expect(trace.id).toMatch(/^[0-9a-f]{32}$/);
    expect(newTrace().id).not.toBe(trace.id);
  });
});

describe("duration", () => {
  it.each([
    [null, "…"],
    [0.0000123, "12 µs"],
    [0.0123, "12.3 ms"],
    [0.5, "500 ms"],
    [12.345, "12.35 s"],
  ])("%s", (seconds, shown) => expect(duration(seconds)).toBe(shown));
});
