/** What administrators did and what was refused, with proof that the journal continues the one seen before. */

import { useState } from "preact/hooks";
import { type Column, Empty, Page } from "../../components";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { Pager } from "../controls";
import { Moment, None, Panel, Verdict } from "../parts";
import { Rows } from "../rows";
import type { TrailPage, TrailRow } from "../types";
import { kindWord } from "../words";

const PAGE_ROWS = 50;
const FIRST_PAGE_MS = 5_000;

const COLUMNS: Column<TrailRow>[] = [
  { head: "When", cell: (row) => <Moment time={row.time} /> },
  { head: "What", cell: (row) => kindWord(row.kind) },
  { head: "By", cell: (row) => row.actor || "The bank" },
  { head: "About", cell: (row) => row.subject || <None /> },
  { head: "Detail", cell: (row) => row.detail.replaceAll("_", " ").replace("approved True", "approved").replace("approved False", "declined") || <None /> },
  { head: "Position", cell: (row) => row.position.toLocaleString(), align: "end" },
];

function Proof({ page }: { page: TrailPage }) {
  return (
    <Verdict
      tone={page.proven ? "ok" : "danger"}
      title={
        page.proven
          ? "Proven: the journal is rightly signed, and nothing in it was changed since this site first saw it."
          : "Not proven: the journal's signed head does not continue the one that this site saw first."
      }
    >
      {!page.proven && (
        <p>
          Verify the journal: <code>fortress audit verify</code>.
        </p>
      )}
      <details class="proof-more">
        <summary>The signed head</summary>
        <p>
          {page.tree_size.toLocaleString()} entries; root of their Merkle tree <code class="root">{page.root}</code>
        </p>
      </details>
    </Verdict>
  );
}

export function Trail() {
  const [cursors, setCursors] = useState<number[]>([0]);
  const cursor = cursors.at(-1) ?? 0;
  const shown = useLoaded((signal) => calls.trail(cursor, PAGE_ROWS, signal), [cursor], { every_ms: cursor === 0 ? FIRST_PAGE_MS : 0 });
  return (
    <Page title="Audit trail"
      lead="Administrative acts and refusals, the newest first. Nobody can change or remove one."
    >
      <Panel name="Audit trail" hidden shown={shown}>
        {(data) => (
          <>
            <Proof page={data} />
            {data.rows.length === 0 && <Empty words="Nothing was done or refused yet." />}
            {data.rows.length > 0 && <Rows caption="Audit trail" columns={COLUMNS} rows={data.rows} keyOf={(row) => String(row.position)} />}
            <Pager
              page={cursors.length}
              back={cursors.length > 1 ? () => setCursors(cursors.slice(0, -1)) : null}
              forth={data.cursor ? () => setCursors([...cursors, data.cursor]) : null}
              backWord="Newer"
              forthWord="Older"
            />
          </>
        )}
      </Panel>
    </Page>
  );
}
