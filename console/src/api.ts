// The kernel's routes, as far as the console uses them.
import { isObject, type Json, type JsonObject } from "./json";
import { events } from "./sse";
import { token } from "./token";

/** RFC 9457, with the kernel's own members; further ones are ids and details. */
export interface Problem {
  title: string;
  detail: string;
  status?: number;
  code?: string;
  fixable_by?: string;
  retryable?: boolean;
  [member: string]: unknown;
}

export interface Skill {
  path: string;
  status: "preparing" | "ready" | "failed";
  type: string;
  kind: "function" | "message_stream" | null;
  wit_version: string | null;
  description: string | null;
  digest: string | null;
  size: number | null;
  updating_to: string | null;
  error: Problem | null;
  tag: string | null;
}

export interface Namespace {
  name: string;
  state: "unread" | "ok" | "stale" | "broken";
  source: string;
  error: Problem | null;
  warnings: string[];
}

export interface Metadata {
  description: string | null;
  version: string | null;
  skill_type: "function" | "message_stream";
  input_schema: Json;
  output_schema: Json;
}

export interface RunSummary {
  id: string;
  skill: string;
  trace_id: string | null;
  began: number;
  seconds: number | null;
  outcome: string | null;
  error: { code: string; title: string; fixable_by: string } | null;
  tokens: { input: number; output: number };
}

export interface Span {
  span_id: string;
  parent_id: string | null;
  name: string;
  kind: string;
  service: string;
  began: number;
  seconds: number | null;
  failed: boolean;
  status: string | null;
  attributes: Record<string, string | number | boolean | string[]>;
  events: { name: string; time: number; attributes: JsonObject }[];
}

export interface ToolCall {
  name: string;
  seconds: number | null;
  error: string | null;
  arguments: string | null;
  result: string | null;
}

export interface Run extends RunSummary {
  spans: Span[];
  dropped_spans: number;
  logs: { time: number; channel: string; text: string }[];
  dropped_logs: number;
  tool_calls: ToolCall[];
}

export type StreamEvent =
  | { event: "message"; type: "begin" }
  | { event: "message"; type: "append"; text: string }
  | { event: "message"; type: "end"; payload: Json }
  | { event: "reasoning"; text: string }
  | { event: "tool"; type: "begin" | "end"; name: string }
  | { event: "tool"; type: "error"; name: string; message: string };

export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

/** What the kernel says is wrong, or what the browser does when there is no answer. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  const detail = error instanceof Error ? error.message : String(error);
  if (error instanceof TypeError) {
    return { title: "No answer", detail: `The kernel can't be reached: ${detail}`, fixable_by: "operator" };
  }
  return { title: "The console failed", detail };
}

/** Relative to the page: the kernel may be beneath a path of a reverse proxy. */
export function url(path: string): string {
  return new URL(path, document.baseURI).href;
}

export function skillUrl(path: string, action: string): string {
  return url(`v1/skills/${path.split("/").map(encodeURIComponent).join("/")}/${action}`);
}

const unauthenticated = new Set<() => void>();

/** Calls back when the kernel wants a token, or another one. */
export function onUnauthenticated(listener: () => void): () => void {
  unauthenticated.add(listener);
  return () => unauthenticated.delete(listener);
}

async function request(target: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token()) headers.set("Authorization", `Bearer ${token()}`);
  const response = await fetch(target, { ...init, headers, credentials: "omit", cache: "no-store" });
  if (response.ok) return response;
  if (response.status === 401) unauthenticated.forEach((listener) => listener());
  throw new ProblemError(await problemIn(response));
}

async function problemIn(response: Response): Promise<Problem> {
  const text = await response.text();
  try {
    const body: unknown = JSON.parse(text);
    if (isObject(body) && typeof body.title === "string") return body as unknown as Problem;
  } catch {
    // Not from the kernel, but from something in between.
  }
  return { title: `Status ${response.status}`, detail: text.slice(0, 500), status: response.status };
}

async function get<T>(path: string): Promise<T> {
  return (await (await request(url(path))).json()) as T;
}

export const skills = (): Promise<Skill[]> => get("v1/skills?detail=true");
export const namespaces = (): Promise<Namespace[]> => get("v1/namespaces");
export const runs = (query = ""): Promise<RunSummary[]> => get(`v1/runs${query}`);
export const run = (id: string): Promise<Run> => get(`v1/runs/${encodeURIComponent(id)}`);

export async function metadata(path: string): Promise<Metadata> {
  return (await (await request(skillUrl(path, "metadata"))).json()) as Metadata;
}

function invocation(body: string, traceparent: string, signal: AbortSignal): RequestInit {
  const headers = { "Content-Type": "application/json", traceparent };
  return { method: "POST", body, headers, signal };
}

export async function runFunction(
  path: string,
  body: string,
  traceparent: string,
  signal: AbortSignal,
): Promise<Json> {
  const response = await request(skillUrl(path, "run"), invocation(body, traceparent, signal));
  return (await response.json()) as Json;
}

/** The events as they come; an `error` event is thrown as `ProblemError`. */
export async function* runStream(
  path: string,
  body: string,
  traceparent: string,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  const response = await request(
    skillUrl(path, "message-stream"),
    invocation(body, traceparent, signal),
  );
  if (!response.body) return;
  for await (const { name, data } of events(response.body)) {
    const value = JSON.parse(data) as JsonObject;
    if (name === "error") throw new ProblemError(streamProblem(value));
    yield { event: name, ...value } as unknown as StreamEvent;
  }
}

/** The event has the members of the problem, and the detail once more as `message`. */
function streamProblem({ message, ...problem }: JsonObject): Problem {
  return { title: "The run failed", detail: String(message), ...problem };
}
