// One skill: what it is, a form for its input, and what comes of it.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import { curl } from "./curl";
import { fieldId, SchemaForm } from "./form";
import { pretty, type Json } from "./json";
import { announcement, OutputView } from "./output";
import { Badge, CopyButton, Fact, PageHeading, ProblemView } from "./parts";
import { useRunner, type Outcome, type Runner } from "./run";
import { describe, initial, violations, type Schema, type Violation } from "./schema";
import { token } from "./token";
import { duration } from "./trace";

export function SkillPage({ path, skill, epoch }: { path: string; skill: api.Skill | undefined; epoch: number }): JSX.Element {
  const [metadata, setMetadata] = useState<api.Metadata | null>(null);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const version = skill?.digest ?? skill?.status;
  useEffect(() => {
    let wanted = true;
    api.metadata(path).then(
      (found) => wanted && (setMetadata(found), setProblem(null)),
      (error: unknown) => wanted && setProblem(api.problemOf(error)),
    );
    return () => {
      wanted = false;
    };
  }, [path, version, epoch]);
  return (
    <>
      <PageHeading page={path}>{path}</PageHeading>
      {skill && <SkillFacts skill={skill} />}
      {skill?.error && <ProblemView problem={skill.error} />}
      {!metadata && !problem && <p role="status">Asking the skill what it is…</p>}
      {problem && <ProblemView problem={problem} />}
      {/* It stays while the skill changes, with what was typed. */}
      {metadata && <Workbench path={path} metadata={metadata} />}
    </>
  );
}

function SkillFacts({ skill }: { skill: api.Skill }): JSX.Element {
  return (
    <dl class="facts">
      <Fact name="State">
        <Badge state={skill.status} />
      </Fact>
      <Fact name="Type">{skill.type}</Fact>
      {skill.kind && <Fact name="Kind">{skill.kind === "function" ? "function" : "message stream"}</Fact>}
      {skill.wit_version && <Fact name="WIT">{skill.wit_version}</Fact>}
      {skill.tag && <Fact name="Tag">{skill.tag}</Fact>}
      {skill.size !== null && <Fact name="Size">{size(skill.size)}</Fact>}
      {skill.digest && (
        <Fact name="Digest">
          <code title={skill.digest}>{skill.digest.slice(0, 19)}…</code>
        </Fact>
      )}
      {skill.updating_to && <Fact name="Updating to">{skill.updating_to.slice(0, 19)}…</Fact>}
    </dl>
  );
}

function size(bytes: number): string {
  return bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

type Mode = "form" | "json";

/** The value of the form, or, when JSON is written, its text: only one of them is edited at a time. */
function Workbench({ path, metadata }: { path: string; metadata: api.Metadata }): JSX.Element {
  const schema = schemaOf(metadata.input_schema);
  const [chosen, setMode] = useState<Mode>("form");
  const hasForm = schema !== null && describe(schema, schema).field.type !== "json";
  const mode = hasForm ? chosen : "json";
  const [value, setValue] = useState<Json | undefined>(() => initial(schema ?? true, schema ?? true));
  const [raw, setRaw] = useState(() => pretty(value ?? {}));
  const [errors, setErrors] = useState<Violation[]>([]);
  const runner = useRunner();
  const stream = metadata.skill_type === "message_stream";
  const running = runner.outcome?.state === "running";

  const body = (): string => (mode === "json" ? raw : JSON.stringify(value ?? null));
  const switchTo = (next: Mode): void => {
    if (next === "json") setRaw(pretty(value ?? null));
    else {
      const parsed = parse(raw);
      if ("error" in parsed) return setErrors([parsed.error]);
      setValue(parsed.value);
    }
    setErrors([]);
    setMode(next);
  };
  const run = (event: Event): void => {
    event.preventDefault();
    if (running) return;
    const parsed = mode === "json" ? parse(raw) : { value: value ?? null };
    const found = "error" in parsed ? [parsed.error] : schema === null ? [] : violations(schema, parsed.value);
    setErrors(found);
    if (found.length === 0) runner.start(path, body(), stream);
  };
  const reuse = (input: string): void => {
    setRaw(input);
    setValue(JSON.parse(input) as Json);
    setErrors([]);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(event);
    if (event.key === "Escape" && running) runner.cancel();
  };

  return (
    <div onKeyDown={onKeyDown}>
      {metadata.description && <p class="description">{metadata.description}</p>}
      <form class="card" noValidate onSubmit={run} aria-label={`Run ${path}`}>
        {hasForm && <ModeSwitch mode={mode} onChange={switchTo} />}
        <ErrorSummary errors={errors} mode={mode} />
        {mode === "form" ? (
          <SchemaForm root={schema ?? true} schema={schema ?? true} value={value} onChange={setValue} errors={errors} />
        ) : (
          <RawInput value={raw} onChange={setRaw} invalid={errors.length > 0} hint={!hasForm} />
        )}
        <div class="actions">
          <button type="submit" class="primary" aria-disabled={running} aria-keyshortcuts="Control+Enter">
            Run
          </button>
          {running && (
            <button type="button" onClick={runner.cancel} aria-keyshortcuts="Escape">
              Cancel
            </button>
          )}
          <CopyButton
            text={() => curl(api.skillUrl(path, stream ? "message-stream" : "run"), body(), token() !== "", stream)}
          >
            Copy as curl
          </CopyButton>
          <span class="quiet hint">Ctrl+Enter runs, Escape cancels</span>
        </div>
      </form>
      <p role="status" class="visually-hidden" data-testid="announcement">
        {announcement(runner.outcome)}
      </p>
      {runner.outcome && <OutputView outcome={runner.outcome} />}
      <Earlier runner={runner} reuse={reuse} />
    </div>
  );
}

function schemaOf(json: Json): Schema | null {
  return typeof json === "object" && json !== null && !Array.isArray(json) ? json : null;
}

function parse(text: string): { value: Json } | { error: Violation } {
  try {
    return { value: JSON.parse(text) as Json };
  } catch (error) {
    return { error: { path: "", message: `This is not JSON: ${(error as Error).message}` } };
  }
}

function ModeSwitch({ mode, onChange }: { mode: Mode; onChange: (mode: Mode) => void }): JSX.Element {
  return (
    <fieldset class="modes">
      <legend class="visually-hidden">How to write the input</legend>
      {(["form", "json"] as const).map((choice) => (
        <label key={choice}>
          <input type="radio" name="mode" checked={mode === choice} onChange={() => onChange(choice)} />
          {choice === "form" ? "Form" : "JSON"}
        </label>
      ))}
    </fieldset>
  );
}

function RawInput(props: { value: string; onChange: (text: string) => void; invalid: boolean; hint: boolean }): JSX.Element {
  return (
    <div class="field">
      <label for={fieldId("")}>Input as JSON</label>
      {props.hint && (
        <p class="hint" id="raw-hint">
          The skill does not say what its input looks like, or not in a way that a form can be made of.
        </p>
      )}
      <textarea
        id={fieldId("")}
        class="code"
        rows={10}
        spellcheck={false}
        aria-invalid={props.invalid ? "true" : undefined}
        aria-describedby={props.hint ? "raw-hint" : undefined}
        value={props.value}
        onInput={(event) => props.onChange(event.currentTarget.value)}
      />
    </div>
  );
}

/** Gets the focus, so that everybody learns why nothing runs. */
function ErrorSummary({ errors, mode }: { errors: Violation[]; mode: Mode }): JSX.Element | null {
  const summary = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (errors.length) summary.current?.focus();
  }, [errors]);
  if (errors.length === 0) return null;
  const lead = (event: Event, path: string): void => {
    event.preventDefault();
    const target = mode === "json" ? fieldId("") : fieldId(path);
    document.getElementById(target)?.focus();
  };
  return (
    <div ref={summary} class="problem" role="alert" tabIndex={-1}>
      <h2>The input is not valid</h2>
      <ul>
        {errors.map(({ path, message }) => (
          <li key={path}>
            <a href={`#${fieldId(path)}`} onClick={(event) => lead(event, path)}>
              {path ? <code>{path.slice(1)}</code> : "Input"}: {message}
            </a>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Earlier({ runner, reuse }: { runner: Runner; reuse: (input: string) => void }): JSX.Element | null {
  if (runner.earlier.length < 1) return null;
  return (
    <section class="card" aria-label="Runs in this tab">
      <h2>Runs in this tab</h2>
      <ul class="plain">
        {runner.earlier.map((outcome: Outcome) => (
          <li key={outcome.began} class="earlier">
            <span>
              {new Date(outcome.began).toLocaleTimeString()} {outcome.state} {duration(outcome.seconds)}
            </span>
            <code class="clip">{outcome.input}</code>
            <button type="button" class="small" onClick={() => reuse(outcome.input)}>
              Use this input<span class="visually-hidden"> of {new Date(outcome.began).toLocaleTimeString()}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
