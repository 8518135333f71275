import { describe, expect, it } from "vitest";
import { EventParser, events } from "../src/sse";

const TEXT = 'event: message\ndata: {"type":"begin"}\n\nevent: tool\ndata: a\ndata: b\n\n';
const EXPECTED = [
  { name: "message", data: '{"type":"begin"}' },
  { name: "tool", data: "a\nb" },
];

describe("EventParser", () => {
  it.each([1, 2, 3, 7, 1000])("does not care where pieces of %i characters end", (size) => {
    const parser = new EventParser();
    const pieces = TEXT.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
    expect(pieces.flatMap((piece) => parser.push(piece))).toEqual(EXPECTED);
  });

  it.each([1, 2, 1000])("knows all line ends, in pieces of %i", (size) => {
    const parser = new EventParser();
    const text = TEXT.replaceAll("\n", "\r\n");
    const pieces = text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
    expect(pieces.flatMap((piece) => parser.push(piece))).toEqual(EXPECTED);
  });

  it("ignores comments, unknown fields and events without data", () => {
    expect(new EventParser().push(": hello\nid: 4\nevent: empty\n\ndata:x\n\n")).toEqual([
      { name: "message", data: "x" },
    ]);
  });

  it("does not give what has not ended", () => {
    expect(new EventParser().push("data: half")).toEqual([]);
  });
});

describe("events", () => {
  it("decodes characters that are cut by the network", async () => {
    const bytes = new TextEncoder().encode("data: müß 🦀\n\n");
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
        controller.close();
      },
    });
    const found = [];
    for await (const event of events(body)) found.push(event.data);
    expect(found).toEqual(["müß 🦀"]);
  });

  it("hangs up when nobody wants more", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode("data: 1\n\ndata: 2\n\n")),
      cancel: () => void (cancelled = true),
    });
    for await (const _ of events(body)) break;
    expect(cancelled).toBe(true);
  });
});
