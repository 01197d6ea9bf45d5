/** One customer: who they are, what they may do, their accounts. */

import { useState } from "preact/hooks";
import { Button, ChoiceField, Facts, Page, TextField, When } from "../../components";
import { ActDialog } from "../acts";
import { calls } from "../calls";
import { useLoaded } from "../../loaded";
import { Checks } from "../controls";
import { Panel, State } from "../parts";
import type { Role, User } from "../types";
import { hasRole, isStaff, useWho } from "../who";
import { personState, roleWords } from "../words";
import { AccountRows } from "./accounts";

type Doing = "roles" | "lock" | "unlock" | "erase" | "open" | null;
const ROLES: Role[] = ["customer", "teller", "administrator", "auditor"];
const ACCOUNTS_SHOWN = 100;

interface DialogProps {
  user: User;
  onClose: () => void;
  onDone: () => void;
}

export function Customer({ username }: { username: string }) {
  const who = useWho();
  const [doing, setDoing] = useState<Doing>(null);
  const user = useLoaded((signal) => calls.user(username, signal), [username]);
  const accounts = useLoaded((signal) => calls.accountsOf(username, 0, ACCOUNTS_SHOWN, signal), [username]);
  const found = user.data;
  const props = { onClose: () => setDoing(null), onDone: user.reload };
  return (
    <Page
        title={found?.name || username}
        back={{ href: "/admin/customers", label: "Customers" }}
        actions={found && hasRole(who, "administrator") && found.state !== "erased" && <Acts user={found} onAct={setDoing} />}
    >
      <Panel name="Customer" hidden shown={user}>
        {(data) => (
          <div class="facts-wide">
            <Facts
              of={[
              ["Username", data.username],
              ["State", <State told={personState(data.state)} />],
              ...(data.locked_until ? ([["Locked until", <When time={data.locked_until} />]] as [string, preact.JSX.Element][]) : []),
              ["Roles", data.roles.map((role) => roleWords[role]).join(", ")],
              ["Customer number", String(data.customer)],
              ["Since", <When time={data.created} />],
              ]}
            />
          </div>
        )}
      </Panel>
      <Panel
        name="Accounts"
        shown={accounts}
        empty={(data) => (data.accounts.length ? "" : "This customer has no account yet.")}
        after={
          found && found.state !== "erased" && isStaff(who) && who.kind === "bank" && (
            <Button onClick={() => setDoing("open")}>
              Open an account
            </Button>
          )
        }
      >
        {(data) => <AccountRows accounts={data.accounts} />}
      </Panel>
      {found && doing === "roles" && <RolesDialog user={found} {...props} />}
      {found && doing === "lock" && <LockDialog user={found} {...props} />}
      {found && doing === "unlock" && <UnlockDialog user={found} {...props} />}
      {found && doing === "erase" && <EraseDialog user={found} {...props} />}
      {found && doing === "open" && <OpenDialog user={found} {...props} onDone={accounts.reload} />}
    </Page>
  );
}

function Acts({ user, onAct }: { user: User; onAct: (doing: Doing) => void }) {
  const isLocked = user.state === "locked";
  return (
    <>
      <Button onClick={() => onAct("roles")}>
        Change roles
      </Button>
      <Button onClick={() => onAct(isLocked ? "unlock" : "lock")}>
        {isLocked ? "Unlock" : "Lock"}
      </Button>
      <Button kind="danger" onClick={() => onAct("erase")}>
        Erase
      </Button>
    </>
  );
}

function RolesDialog({ user, ...props }: DialogProps) {
  const [roles, setRoles] = useState<Role[]>(user.roles);
  return (
    <ActDialog
      {...props}
      title={`Change the roles of ${user.username}`}
      act="Ask for these roles"
      second
      ready={roles.length > 0 && [...roles].sort().join() !== [...user.roles].sort().join()}
      run={(id) => calls.setRoles(user.username, { id, roles })}
    >
      <Checks
        label="Roles"
        options={ROLES.map((role): [Role, string] => [role, roleWords[role] ?? role])}
        chosen={roles}
        onChange={setRoles}
      />
    </ActDialog>
  );
}

const HOURS = [
  { value: "0", label: "Until somebody unlocks" },
  { value: "1", label: "One hour" },
  { value: "24", label: "One day" },
  { value: "168", label: "One week" },
];

function LockDialog({ user, ...props }: DialogProps) {
  const [hours, setHours] = useState("0");
  return (
    <ActDialog
      {...props}
      title={`Lock ${user.username} out`}
      act={`Lock ${user.username}`}
      run={() => calls.lock(user.username, Number(hours))}
      done={`${user.username} is locked out.`}
    >
      <p>They are signed out everywhere at once and cannot sign in. Their money stays where it is, and they can still be paid.</p>
      <ChoiceField label="For how long" value={hours} options={HOURS} onValue={setHours} />
    </ActDialog>
  );
}

function UnlockDialog({ user, ...props }: DialogProps) {
  return (
    <ActDialog
      {...props}
      title={`Unlock ${user.username}`}
      act={`Unlock ${user.username}`}
      run={() => calls.unlock(user.username)}
      done={`${user.username} can sign in again.`}
    >
      <p>They can sign in again with the password that they have.</p>
    </ActDialog>
  );
}

function EraseDialog({ user, ...props }: DialogProps) {
  return (
    <ActDialog
      {...props}
      title={`Erase ${user.username}`}
      act={`Erase ${user.username} for good`}
      danger
      second
      confirm={user.username}
      run={(id) => calls.erase(user.username, id)}
    >
      <p>
        The key to this person's data is destroyed: name and contact data cannot be read by anybody again, also not from old backups.
        Their entries stay in the journal, under a number. This cannot be undone.
      </p>
    </ActDialog>
  );
}

function OpenDialog({ user, ...props }: DialogProps) {
  const [currency, setCurrency] = useState("EUR");
  const [number, setNumber] = useState(0);
  return (
    <ActDialog
      {...props}
      title={`Open an account for ${user.name || user.username}`}
      act="Open the account"
      ready={/^[A-Z]{3}$/.test(currency)}
      run={async (id) => {
        const opened = await calls.openAccount({ id, username: user.username, currency });
        setNumber(opened.account.number);
        return {};
      }}
      done={number ? `Account ${number} is open.` : "The account is open."}
    >
      <TextField
        label="Currency"
        value={currency}
        onValue={(value) => setCurrency(value.toUpperCase())}
        hint="Three letters, such as EUR. It cannot be changed."
        maxLength={3}
      />
    </ActDialog>
  );
}
