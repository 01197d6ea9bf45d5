/** The people of the bank: page through them, invite somebody, or make somebody by hand. */

import { useState } from "preact/hooks";
import { Button, type Column, Page, When } from "../../components";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { NameSearch, Pager } from "../controls";
import { Names, Panel, State } from "../parts";
import { Rows } from "../rows";
import type { User } from "../types";
import { hasRole, useWho } from "../who";
import { personState, roleWords } from "../words";
import { CreateDialog } from "./creating";
import { InviteDialog } from "./inviting";

const PAGE_ROWS = 50;

export const customerPath = (username: string): string => `/admin/customers/${username}`;

const COLUMNS: Column<User>[] = [
  {
    head: "Customer",
    cell: (user) => <Names name={user.name} username={user.username} href={customerPath(user.username)} />,
    isHead: true,
  },
  { head: "Roles", cell: (user) => user.roles.map((role) => roleWords[role]).join(", ") },
  { head: "State", cell: (user) => <State told={personState(user.state)} /> },
  { head: "Since", cell: (user) => <When time={user.created} style="date" /> },
  { head: "Number", cell: (user) => String(user.customer), align: "end" },
];

export function Customers() {
  const who = useWho();
  const [trail, setTrail] = useState<number[]>([0]);
  const [dialog, setDialog] = useState<"invite" | "create" | null>(null);
  const after = trail.at(-1) ?? 0;
  const shown = useLoaded((signal) => calls.users(after, PAGE_ROWS, signal), [after]);
  const close = () => setDialog(null);
  return (
    <Page
        title="Customers"
        actions={
          hasRole(who, "administrator") && (
            <>
              <Button onClick={() => setDialog("create")}>
                Create by hand
              </Button>
              <Button kind="primary" onClick={() => setDialog("invite")}>
                Invite somebody
              </Button>
            </>
          )
        }
    >
      <NameSearch label="Open a customer by username" button="Open customer" to={customerPath} />
      <Panel name="Customers" hidden shown={shown} empty={(data) => (data.users.length ? "" : "There are no customers yet. Invite somebody.")}>
        {(data) => (
          <>
            <Rows caption="Customers" columns={COLUMNS} rows={data.users} keyOf={(user) => user.username} />
            <Pager
              page={trail.length}
              back={trail.length > 1 ? () => setTrail(trail.slice(0, -1)) : null}
              forth={data.next_after ? () => setTrail([...trail, data.next_after]) : null}
            />
          </>
        )}
      </Panel>
      {dialog === "invite" && <InviteDialog onClose={close} />}
      {dialog === "create" && <CreateDialog onClose={close} onDone={shown.reload} />}
    </Page>
  );
}
