// Trace ids of runs, and their spans in the order and the places in which a timeline shows them.
import type { Span } from "./api";

function hex(bytes: number): string {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

export interface Trace {
  id: string;
  /** W3C trace context: by it the run is found again, and what it leads to is recorded. */
  traceparent: string;
}

export function newTrace(): Trace {
  const id = hex(16);
  return { id, traceparent: `00-${id}-${hex(8)}-01` };
}

export interface Row {
  span: Span;
  depth: number;
  /** Share of the whole time, 0 to 1. */
  offset: number;
  width: number;
}

/** Parents before their children, siblings by the time of their begin. */
export function timeline(spans: Span[], now: number): { rows: Row[]; seconds: number } {
  const ids = new Set(spans.map((span) => span.span_id));
  const children = new Map<string | null, Span[]>();
  for (const span of [...spans].sort((a, b) => a.began - b.began)) {
    const known = span.parent_id !== null && span.parent_id !== span.span_id && ids.has(span.parent_id);
    const parent = known ? span.parent_id : null;
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const begin = Math.min(...spans.map((span) => span.began));
  const end = Math.max(...spans.map((span) => endOf(span, now)));
  const seconds = Math.max(end - begin, 1e-6);
  const rows: Row[] = [];
  const seen = new Set<string>();
  const visit = (parent: string | null, depth: number): void => {
    for (const span of children.get(parent) ?? []) {
      if (seen.has(span.span_id)) continue;
      seen.add(span.span_id);
      const width = (endOf(span, now) - span.began) / seconds;
      rows.push({ span, depth, offset: (span.began - begin) / seconds, width });
      visit(span.span_id, depth + 1);
    }
  };
  visit(null, 0);
  return { rows, seconds: spans.length ? seconds : 0 };
}

function endOf(span: Span, now: number): number {
  return span.seconds === null ? Math.max(now, span.began) : span.began + span.seconds;
}

export function duration(seconds: number | null): string {
  if (seconds === null) return "…";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  return `${seconds.toFixed(2)} s`;
}
