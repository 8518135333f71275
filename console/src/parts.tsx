// Small parts of several pages.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Problem } from "./api";

const SHOWN = new Set(["type", "title", "detail", "status", "code", "fixable_by", "retryable", "errors"]);

const FIXERS: Record<string, string> = {
  caller: "whoever calls",
  "skill-author": "the author of the skill",
  operator: "the operator of the kernel",
  upstream: "a service that the kernel uses",
};

/** An error as the kernel tells it, with all ids that it gives. */
export function ProblemView({ problem, heading = 3 }: { problem: Problem; heading?: 3 | 4 }): JSX.Element {
  const Heading = heading === 3 ? "h3" : "h4";
  const others = Object.entries(problem).filter(([key, value]) => !SHOWN.has(key) && value != null);
  return (
    <div class="problem">
      <Heading>{problem.title}</Heading>
      <p class="detail">{problem.detail}</p>
      <dl class="facts">
        {problem.fixable_by && <Fact name="Who can fix it">{FIXERS[problem.fixable_by] ?? problem.fixable_by}</Fact>}
        {problem.retryable !== undefined && (
          <Fact name="Trying again">{problem.retryable ? "can help" : "does not help"}</Fact>
        )}
        {problem.status !== undefined && <Fact name="Status">{problem.status}</Fact>}
        {problem.code && <Fact name="Code">{problem.code}</Fact>}
        {others.map(([key, value]) => (
          <Fact key={key} name={key}>
            <code>{typeof value === "string" ? value : JSON.stringify(value)}</code>
          </Fact>
        ))}
      </dl>
    </div>
  );
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

const GOOD = new Set(["ready", "ok", "done"]);
const BAD = new Set(["failed", "broken"]);

/** A state in words; the colour only repeats it. */
export function Badge({ state }: { state: string }): JSX.Element {
  const tone = GOOD.has(state) ? "good" : BAD.has(state) ? "bad" : "busy";
  return <span class={`badge ${tone}`}>{state}</span>;
}

export function CopyButton({ text, children }: { text: () => string; children: ComponentChildren }): JSX.Element {
  const [said, say] = useState("");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text());
      say("Copied");
    } catch {
      say("The browser does not allow copying");
    }
  };
  return (
    <span class="copy">
      <button type="button" onClick={() => void copy()}>
        {children}
      </button>
      <span role="status" class="quiet">
        {said}
      </span>
    </span>
  );
}

let turned = false;

/** The heading of a page, which gets the focus when the page is turned. */
export function PageHeading({ children, page }: { children: ComponentChildren; page: string }): JSX.Element {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${page} · PhariaKernel console`;
    if (turned) heading.current?.focus();
    turned = true;
  }, [page]);
  return (
    <h1 ref={heading} tabIndex={-1}>
      {children}
    </h1>
  );
}

/** Calls again and again while the page is looked at. */
export function usePolling(action: () => void, milliseconds: number, key: unknown): void {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    latest.current();
    const timer = setInterval(() => document.hidden || latest.current(), milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds, key]);
}

export function time(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString();
}
