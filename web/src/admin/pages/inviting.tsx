/** Invite somebody: a code with which they register by themselves and choose their own password. */

import { useState } from "preact/hooks";
import { ChoiceField, When } from "../../components";
import { ActDialog, Approved } from "../acts";
import { calls } from "../calls";
import { Secret } from "../controls";
import type { InvitationCode } from "../types";

const HOURS = [
  { value: "24", label: "One day" },
  { value: "168", label: "One week" },
  { value: "744", label: "One month" },
];

export function InviteDialog({ onClose }: { onClose: () => void }) {
  const [hours, setHours] = useState("168");
  const [made, setMade] = useState<InvitationCode | null>(null);
  return (
    <ActDialog
      title="Invite somebody"
      act="Make the code"
      onClose={onClose}
      run={async (id) => {
        const code = await calls.invite({ id, role: "customer", valid_hours: Number(hours) });
        setMade(code);
        return { approval: code.approval ?? "" };
      }}
      finished={
        made?.code ? (
          <>
            <Secret name="Invitation code" value={made.code} />
            <p>
              Give it to the person whom you mean. They register with it until <When time={made.expires} />, and choose their own
              password, which nobody else ever sees. The code works once and is not shown again.
            </p>
          </>
        ) : (
          <Approved />
        )
      }
    >
      <p>You get a code with which one person becomes a customer. Staff roles are given afterwards, on the customer's page.</p>
      <ChoiceField label="The code works for" value={hours} options={HOURS} onValue={setHours} />
    </ActDialog>
  );
}
