// The last runs of everybody, as the kernel keeps them.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import * as api from "./api";
import { Fact, PageHeading, ProblemView, time, usePolling } from "./parts";
import { RecordView } from "./record";
import { duration } from "./trace";

const INTERVAL = 3000;

export function RunsPage({ epoch }: { epoch: number }): JSX.Element {
  const [runs, setRuns] = useState<api.RunSummary[] | null>(null);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const load = (): void => {
    api.runs().then(
      (found) => (setRuns(found), setProblem(null)),
      (error: unknown) => setProblem(api.problemOf(error)),
    );
  };
  usePolling(load, INTERVAL, epoch);
  return (
    <>
      <PageHeading page="Runs">Runs</PageHeading>
      {problem && <ProblemView problem={problem} />}
      {runs?.length === 0 && !problem && <p>Nothing has run yet.</p>}
      {runs !== null && runs.length > 0 && <RunTable runs={runs} />}
    </>
  );
}

function RunTable({ runs }: { runs: api.RunSummary[] }): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Table of runs">
      <table>
        <caption class="visually-hidden">The last runs, newest first</caption>
        <thead>
          <tr>
            {["Time", "Skill", "Outcome", "Took", "Tokens", "Run"].map((name) => (
              <th key={name} scope="col" class={name === "Took" || name === "Tokens" ? "number" : ""}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.id}>
              <td>{time(run.began)}</td>
              <td>{run.skill}</td>
              <td>
                <OutcomeBadge run={run} />
              </td>
              <td class="number">{duration(run.seconds)}</td>
              <td class="number">{run.tokens.input + run.tokens.output || ""}</td>
              <td>
                <a href={`#/runs/${run.id}`}>
                  <code>{run.id.slice(0, 8)}</code>
                </a>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function OutcomeBadge({ run }: { run: api.RunSummary }): JSX.Element {
  const tone = run.outcome === "ok" ? "good" : run.outcome === null || run.outcome === "cancelled" ? "busy" : "bad";
  return <span class={`badge ${tone}`}>{run.error?.title ?? run.outcome ?? "running"}</span>;
}

export function RunPage({ id, epoch }: { id: string; epoch: number }): JSX.Element {
  const [run, setRun] = useState<api.Run | null>(null);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const load = (): void => {
    if (run?.id === id && run.outcome !== null) return;
    api.run(id).then(
      (found) => (setRun(found), setProblem(null)),
      (error: unknown) => setProblem(api.problemOf(error)),
    );
  };
  usePolling(load, INTERVAL, `${id} ${epoch}`);
  return (
    <>
      <PageHeading page={`Run ${id.slice(0, 8)}`}>Run {id.slice(0, 8)}</PageHeading>
      {problem && <ProblemView problem={problem} />}
      {run?.id === id && (
        <div class="card">
          <dl class="facts">
            <Fact name="Skill">
              <a href={`#/skills/${run.skill.split("/").map(encodeURIComponent).join("/")}`}>{run.skill}</a>
            </Fact>
            <Fact name="Time">{time(run.began)}</Fact>
            <Fact name="Outcome">
              <OutcomeBadge run={run} />
            </Fact>
            {run.error && <Fact name="Who can fix it">{run.error.fixable_by}</Fact>}
          </dl>
          <RecordView run={run} />
        </div>
      )}
    </>
  );
}
