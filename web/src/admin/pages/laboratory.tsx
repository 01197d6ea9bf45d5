/** The demo's laboratory: break its processes and watch what happens to payments. */

import { useState } from "preact/hooks";
import { announce, Button, Facts, Page } from "../../components";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { formatTime } from "../../time";
import { ActFailure, Panel, State } from "../parts";
import { Timeline } from "../timeline";
import type { LabNode, LabView } from "../types";
import { hasRole, useWho } from "../who";
import { nodeRole, nodeState, processState } from "../words";

const EVERY_MS = 700;

type Act = "kill" | "stop" | "cont" | "cut" | "heal";

const ACTS: Record<Act, { word: string; said: string; danger?: boolean }> = {
  kill: { word: "Kill", said: "was killed. It is started again by itself.", danger: true },
  stop: { word: "Stop", said: "hangs now: it is there and does nothing." },
  cont: { word: "Wake", said: "goes on." },
  cut: { word: "Cut off", said: "is cut off from its pair." },
  heal: { word: "Heal", said: "reaches its pair again." },
};

function actsOf(node: LabNode): Act[] {
  if (node.state === "gone") return [];
  if (node.state === "stopped") return ["cont", "kill"];
  if (node.state === "cut") return ["heal", "kill"];
  return ["kill", "stop", "cut"];
}

/** The processes of the demo, those of one bank together. */
function groupsOf(view: LabView): [string, LabNode[]][] {
  const groups = new Map<string, LabNode[]>();
  for (const node of view.nodes) groups.set(node.bank, [...(groups.get(node.bank) ?? []), node]);
  return [...groups];
}

export function Laboratory() {
  const shown = useLoaded(calls.lab, [], { every_ms: EVERY_MS });
  return (
    <Page title="Laboratory"
      lead="Break things on purpose. Kill a primary while payments run: its standby takes over, and no payment is lost or done twice."
    >
      <Panel name="Processes" hidden bare shown={shown} empty={(data) => (data.nodes.length ? "" : "The demo has no process that can be reached.")}>
        {(data) => (
          <div class="lab-groups">
            {groupsOf(data).map(([bank, nodes]) => (
              <section key={bank} class="lab-group" aria-labelledby={`lab-${bank}`}>
                <h2 id={`lab-${bank}`}>{bank === "gateway" ? "Gateway" : bank === "witness" || bank === "" ? "Witness" : `Bank ${bank}`}</h2>
                <ul class="cards lab-nodes" role="list">
                  {nodes.map((node) => (
                    <li key={node.name}>
                      <LabCard node={node} onDone={shown.reload} />
                    </li>
                  ))}
                </ul>
              </section>
            ))}
          </div>
        )}
      </Panel>
      <Panel name="Newest payment between banks" shown={shown} empty={(data) => (data.payment ? "" : "No payment has gone between banks yet.")}>
        {(data) =>
          data.payment && (
            <>
              <p class="quiet">
                {data.payment.payer} → {data.payment.payee}
              </p>
              <Timeline key={data.payment.id} payment={data.payment} />
            </>
          )
        }
      </Panel>
      <Panel name="Log" shown={shown} empty={(data) => (data.log.length ? "" : "Nothing was said yet.")}>
        {(data) => <Log lines={data.log} />}
      </Panel>
    </Page>
  );
}

function LabCard({ node, onDone }: { node: LabNode; onDone: () => void }) {
  const who = useWho();
  const [busy, setBusy] = useState<Act | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  async function act(what: Act) {
    setBusy(what);
    setFailure(null);
    try {
      await calls.labAct(node.name, what);
      announce(`${node.name} ${ACTS[what].said}`);
    } catch (error) {
      setFailure(error);
    }
    setBusy(null);
    onDone();
  }
  const inner = node.node;
  const isUp = node.state === "running" || node.state === "cut";
  return (
    <article class={`card node lab-node lab-${node.state}`}>
      <header class="node-head">
        <h3>{node.name}</h3>
        <span class="node-role">{inner && isUp ? nodeRole(inner.role) : ""}</span>
      </header>
      <State told={processState(node.state)} />
      {inner && isUp ? (
        <Facts
          of={[
            ["Is", nodeState(inner.state).word],
            ["Term", String(inner.term)],
            ["Seq", inner.position.toLocaleString()],
            ["Behind", String(inner.behind)],
          ]}
        />
      ) : (
        <p class="quiet">{node.state === "gone" ? "It is being started again." : node.state === "stopped" ? "It is there, but does nothing." : "It keeps no books."}</p>
      )}
      {hasRole(who, "administrator") && (
        <div class="acts lab-acts">
          {actsOf(node).map((what) => (
            <Button
              key={what}
              small
              kind={ACTS[what].danger ? "danger" : "plain"}
              busy={busy === what}
              busyWords={ACTS[what].word}
              disabled={busy !== null && busy !== what}
              label={`${ACTS[what].word} ${node.name}`}
              onClick={() => void act(what)}
            >
              {ACTS[what].word}
            </Button>
          ))}
        </div>
      )}
      {failure !== null && <ActFailure failure={failure} />}
    </article>
  );
}

/** A line begins with its time. */
function Line({ text }: { text: string }) {
  const [, time, words] = /^(\d{4}-\S+Z) (.*)$/.exec(text) ?? [];
  if (!time || !words) return <>{text}</>;
  return (
    <>
      <time dateTime={time}>{formatTime(time, "clock")}</time> {words}
    </>
  );
}

/** The newest line first, as the bank tells them. */
function Log({ lines }: { lines: string[] }) {
  return (
    <div class="log" role="log" aria-label="Log" tabIndex={0}>
      <ol role="list">
        {lines.map((line) => (
          <li key={line}>
            <Line text={line} />
          </li>
        ))}
      </ol>
    </div>
  );
}
