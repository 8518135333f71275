import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import { RunPage, RunsPage } from "./history";
import { Badge, PageHeading, ProblemView, usePolling } from "./parts";
import { SkillPage } from "./skill";
import { setToken, token } from "./token";

const INTERVAL = 3000;

/** The path behind the `#`, decoded part by part. */
function useRoute(): string[] {
  const read = (): string[] => location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  const [route, setRoute] = useState(read);
  useEffect(() => {
    const listener = (): void => {
      // Links to places within the page have no slash.
      if (location.hash === "" || location.hash.startsWith("#/")) setRoute(read());
    };
    addEventListener("hashchange", listener);
    return () => removeEventListener("hashchange", listener);
  }, []);
  return route;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

interface Known {
  skills: api.Skill[];
  namespaces: api.Namespace[];
}

export function App(): JSX.Element {
  const route = useRoute();
  const [known, setKnown] = useState<Known | null>(null);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const [asking, setAsking] = useState(false);
  /** The kernel has refused the token: asked for once, and not again with every request. */
  const refused = useRef(false);
  /** Grows with every token: whatever was refused is asked for again. */
  const [epoch, setEpoch] = useState(0);
  const onRefusal = (): void => {
    if (!refused.current) setAsking(true);
    refused.current = true;
  };
  useEffect(() => api.onUnauthenticated(onRefusal), []);

  const load = (): void => {
    if (refused.current) return;
    loadKnown().then(
      (found) => (setKnown(found), setProblem(null)),
      (error: unknown) => setProblem(api.problemOf(error)),
    );
  };
  usePolling(load, INTERVAL, epoch);
  const useToken = (value: string): void => {
    setToken(value);
    refused.current = false;
    setAsking(false);
    setEpoch(epoch + 1);
  };

  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), focusMain())}>
        Skip to the content
      </a>
      <header>
        <a href="#/" class="brand">
          PhariaKernel
        </a>
        <nav aria-label="Kernel">
          <a href="#/runs" aria-current={route[0] === "runs" ? "page" : undefined}>
            Runs
          </a>
          <a href="api-docs">API</a>
          <button type="button" onClick={() => setAsking(true)}>
            {token() ? "Token set" : "Token"}
          </button>
        </nav>
      </header>
      <div class="columns">
        <nav aria-label="Skills" class="skills">
          {known && <SkillList known={known} current={route.slice(1).join("/")} />}
        </nav>
        <main id="main" tabIndex={-1}>
          {problem && <ProblemView problem={problem} />}
          <Page route={route} known={known} epoch={epoch} />
        </main>
      </div>
      {asking && (
        <TokenDialog
          refusal={token() && problem?.status === 401 ? problem.detail : null}
          onUse={useToken}
          onClose={() => setAsking(false)}
        />
      )}
    </>
  );
}

function focusMain(): void {
  document.getElementById("main")?.focus();
}

/** Who may run skills, but not see how namespaces are doing, gets the skills alone. */
async function loadKnown(): Promise<Known> {
  const skills = await api.skills();
  const namespaces = await api.namespaces().catch((error: unknown) => {
    if (api.problemOf(error).status === 403) return [];
    throw error;
  });
  return { skills, namespaces };
}

function Page({ route, known, epoch }: { route: string[]; known: Known | null; epoch: number }): JSX.Element {
  const [page, first, second] = route;
  if (page === "skills" && first && second) {
    const path = `${first}/${second}`;
    const skill = known?.skills.find((one) => one.path === path);
    return <SkillPage key={path} path={path} skill={skill} epoch={epoch} />;
  }
  if (page === "runs" && first) return <RunPage key={first} id={first} epoch={epoch} />;
  if (page === "runs") return <RunsPage epoch={epoch} />;
  return <Overview known={known} />;
}

// --- skills and namespaces

function grouped({ skills, namespaces }: Known): { name: string; namespace: api.Namespace | undefined; skills: api.Skill[] }[] {
  const names = new Set([...namespaces.map(({ name }) => name), ...skills.map(({ path }) => path.split("/")[0] ?? "")]);
  return [...names].sort().map((name) => ({
    name,
    namespace: namespaces.find((one) => one.name === name),
    skills: skills.filter(({ path }) => path.startsWith(`${name}/`)),
  }));
}

function SkillList({ known, current }: { known: Known; current: string }): JSX.Element {
  return (
    <>
      {grouped(known).map(({ name, namespace, skills }) => (
        <section key={name} aria-labelledby={`namespace-${name}`}>
          <h2 id={`namespace-${name}`}>
            {name} {namespace && namespace.state !== "ok" && <Badge state={namespace.state} />}
          </h2>
          <ul class="plain">
            {skills.map((skill) => (
              <li key={skill.path}>
                <a
                  href={`#/skills/${skill.path.split("/").map(encodeURIComponent).join("/")}`}
                  aria-current={skill.path === current ? "page" : undefined}
                >
                  {skill.path.slice(name.length + 1)} {skill.status !== "ready" && <Badge state={skill.status} />}
                </a>
              </li>
            ))}
          </ul>
        </section>
      ))}
    </>
  );
}

function Overview({ known }: { known: Known | null }): JSX.Element {
  return (
    <>
      <PageHeading page="Skills">Skills</PageHeading>
      {known === null && <p role="status">Asking the kernel…</p>}
      {known && grouped(known).length === 0 && <p>No namespace is configured, or none that you may see.</p>}
      {known &&
        grouped(known).map(({ name, namespace, skills }) => (
          <section key={name} class="card" aria-label={`Namespace ${name}`}>
            <h2>
              {name} {namespace && <Badge state={namespace.state} />}
            </h2>
            {namespace && <p class="quiet">{namespace.source}</p>}
            {namespace?.error && <ProblemView problem={namespace.error} />}
            {namespace?.warnings.map((warning) => (
              <p key={warning} class="warning">
                {warning}
              </p>
            ))}
            {skills.length === 0 ? <p>It has no skills.</p> : <SkillTable skills={skills} />}
          </section>
        ))}
    </>
  );
}

function SkillTable({ skills }: { skills: api.Skill[] }): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Table of skills">
      <table>
        <thead>
          <tr>
            {["Skill", "State", "Kind", "WIT"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {skills.map((skill) => (
            <tr key={skill.path}>
              <th scope="row">
                <a href={`#/skills/${skill.path.split("/").map(encodeURIComponent).join("/")}`}>{skill.path}</a>
                {skill.description && <p class="hint">{firstLine(skill.description)}</p>}
              </th>
              <td>
                <Badge state={skill.status} />
                {skill.error && <p class="error">{skill.error.detail}</p>}
              </td>
              <td>{skill.kind === "message_stream" ? "message stream" : (skill.kind ?? "")}</td>
              <td>{skill.wit_version ?? ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function firstLine(text: string): string {
  return text.trim().split("\n", 1)[0] ?? "";
}

// --- the token

interface TokenDialogProps {
  refusal: string | null;
  onUse: (token: string) => void;
  onClose: () => void;
}

function TokenDialog({ refusal, onUse, onClose }: TokenDialogProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [value, setValue] = useState(token());
  useEffect(() => dialog.current?.showModal(), []);
  const submit = (event: Event): void => {
    event.preventDefault();
    onUse(value.trim());
  };
  return (
    <dialog ref={dialog} aria-labelledby="token-heading" onClose={onClose}>
      <form onSubmit={submit}>
        <h2 id="token-heading">Bearer token</h2>
        <p id="token-hint" class="hint">
          For a kernel with authorization: an API key or a token. It stays in this tab and is forgotten with it.
        </p>
        {refusal && (
          <p class="error" role="alert">
            {refusal}
          </p>
        )}
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autoComplete="off"
          spellcheck={false}
          aria-describedby="token-hint"
          value={value}
          onInput={(event) => setValue(event.currentTarget.value)}
        />
        <div class="actions">
          <button type="submit" class="primary">
            Use
          </button>
          <button type="button" onClick={() => dialog.current?.close()}>
            Close
          </button>
        </div>
      </form>
    </dialog>
  );
}
