/** The proof that a payment is in the bank's journal, to look at and to keep. */

import { useState } from "preact/hooks";
import { api, type Shapes } from "../api";
import { Block, Button, Facts, Status } from "../components";
import { type Loaded, useLoaded } from "../loaded";
import { formatTime } from "../time";
import { saveFile } from "./files";

export function Receipt({ id }: { id: string }) {
  const receipt = useLoaded((signal) => api.get("/api/payments/{id}/receipt", { path: { id }, signal }), [id]);
  return (
    <Block of={receipt} title="Receipt" lines={2}>
      {(data) => <Proof data={data} id={id} receipt={receipt} />}
    </Block>
  );
}

function Proof({ data, id, receipt }: { data: Shapes["Receipt"]; id: string; receipt: Loaded<Shapes["Receipt"]> }) {
  const [isOpen, setOpen] = useState(false);
  const { head } = data;
  return (
    <>
      <p>
        {data.holds ? <Status tone="ok">The proof holds</Status> : <Status tone="danger">The proof does not hold</Status>}
      </p>
      <p class="muted">
        {data.holds
          ? `This payment is entry ${data.position} of bank ${head.bank}'s journal, under a head the bank signed on ${formatTime(head.time, "both")}. It cannot be changed later without being found out.`
          : "The bank's proof and its signature do not fit together. Keep this receipt and tell the bank."}
      </p>
      {isOpen && (
        <Facts
          of={[
            ["Position", String(data.position)],
            ["Entries in the journal", String(head.tree_size)],
            ["Epoch", String(head.epoch)],
            ["Root of the tree", <span key="root" class="code wrap">{head.root}</span>],
            ["Signature", <span key="signature" class="code wrap">{head.signature}</span>],
            ["Key of the bank", <span key="key" class="code wrap">{head.key}</span>],
          ]}
        />
      )}
      <p class="row">
        <Button small icon="download" onClick={() => saveFile(`receipt-${id}.json`, "application/json", JSON.stringify(data, null, 2))}>
          Download receipt
        </Button>
        <Button small kind="quiet" expanded={isOpen} onClick={() => setOpen(!isOpen)}>
          {isOpen ? "Hide the proof" : "Show the proof"}
        </Button>
        {!data.holds && (
          <Button small kind="quiet" icon="refresh" onClick={receipt.reload}>
            Ask again
          </Button>
        )}
      </p>
    </>
  );
}
