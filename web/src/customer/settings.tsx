/** Settings: contact data, password, sessions, limits, theme. */

import { useEffect, useState } from "preact/hooks";
import { api, ApiError, type Shapes } from "../api";
import { Amount, Block, Button, ChoiceField, Dialog, Empty, focusFirstError, Form, ProblemNotice, Status, Table, TextField, toast, When } from "../components";
import { type Loaded, useLoaded } from "../loaded";
import { exchange, present } from "../session";
import { useStore } from "../store";
import { setTheme, theme } from "../theme";
import { CeremonyError, ceremonies } from "../worker/client";
import { CustomerPage, useMine } from "./page";
import { grouped } from "./words";

export function Settings() {
  const isBank = useStore(present).session?.kind === "bank";
  return (
    <CustomerPage title="Settings" narrow>
      <Contact />
      <Password />
      <Sessions />
      {isBank && <LimitsBlock />}
      <section class="card block">
        <h2>Looks</h2>
        <Looks />
      </section>
    </CustomerPage>
  );
}

// -- contact data --------------------------------------------------------------------------------------------------

type Profile = Shapes["Profile"];

function Contact() {
  const profile = useLoaded((signal) => api.get("/api/profile", { signal }), []);
  return (
    <Block of={profile} title="Contact data">
      {(data) => <ContactForm stored={data} profile={profile} />}
    </Block>
  );
}

function ContactForm({ stored, profile }: { stored: Profile; profile: Loaded<Profile> }) {
  const [it, setIt] = useState(stored);
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const set = (name: keyof Profile) => (value: string) => setIt({ ...it, [name]: value });
  const wrongMail = it.email && !/^[^@\s]+@[^@\s]+$/.test(it.email) ? "An e-mail address has one @, such as you@example.org." : "";
  const wrongPhone = /^[0-9+(). /-]*$/.test(it.phone) ? "" : "Use digits, spaces and + ( ) . / - only.";
  const save = async (): Promise<void> => {
    if (wrongMail || wrongPhone) return focusFirstError();
    setBusy(true);
    setFailure(null);
    try {
      await api.put("/api/profile", { body: it });
      profile.replace(it);
      toast("Your contact data is saved.", "ok");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Form onSubmit={() => void save()} busy={isBusy} label="Contact data">
      <TextField label="Name" value={it.name} onValue={set("name")} autoComplete="name" maxLength={140} />
      <TextField label="E-mail" type="email" value={it.email} onValue={set("email")} autoComplete="email" maxLength={254} error={wrongMail} />
      <TextField label="Phone" type="tel" value={it.phone} onValue={set("phone")} autoComplete="tel" maxLength={32} error={wrongPhone} />
      <TextField label="Postal address" rows={3} value={it.address} onValue={set("address")} autoComplete="street-address" maxLength={500} />
      {failure && <ProblemNotice error={failure} title="This was not saved." retry={() => void save()} />}
      <div class="form-foot">
        <Button kind="primary" type="submit" busy={isBusy} busyWords="Saving…">
          Save contact data
        </Button>
      </div>
    </Form>
  );
}

// -- password ------------------------------------------------------------------------------------------------------

function Password() {
  const [isOpen, setOpen] = useState(false);
  return (
    <section class="card block">
      <h2>Password</h2>
      {isOpen ? (
        <PasswordForm onDone={() => setOpen(false)} />
      ) : (
        <>
          <p class="muted">It never leaves this device: only a proof of it is sent. Nobody at the bank can tell it to you.</p>
          <div class="form-foot">
            <Button icon="key" onClick={() => setOpen(true)}>
              Change password
            </Button>
          </div>
        </>
      )}
    </section>
  );
}

type Which = "old" | "fresh" | "again";

const UNCLEAR = "We do not know yet whether the password was changed. Sign out, and sign in with the new one to find out.";

function PasswordForm({ onDone }: { onDone: () => void }) {
  const { username } = useMine();
  const [it, setIt] = useState<Record<Which, string>>({ old: "", fresh: "", again: "" });
  const [errors, setErrors] = useState<Partial<Record<Which, string>>>({});
  const [progress, setProgress] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const [isUnclear, setUnclear] = useState(false);
  useEffect(() => ceremonies.warmUp(), []);
  const set = (which: Which) => (value: string) => {
    setIt({ ...it, [which]: value });
    setErrors({ ...errors, [which]: "" });
  };
  const wrong = (found: Partial<Record<Which, string>>) => {
    setErrors(found);
    setBusy(false);
    focusFirstError();
  };
  const save = async (): Promise<void> => {
    if (!it.old) return wrong({ old: "Type the password that you have now." });
    if (it.fresh !== it.again) return wrong({ again: "The two new passwords are not the same." });
    setBusy(true);
    setFailure(null);
    try {
      await ceremonies.checkPassword(it.fresh);
      const { token } = await ceremonies.changePassword(username, it.old, it.fresh, setProgress);
      await exchange(token);
      toast("Your password is changed. You are signed out everywhere else.", "ok");
      onDone();
    } catch (error) {
      if (error instanceof CeremonyError && error.kind === "password_weak") return wrong({ fresh: "At least 10 characters, and no well-known password. A phrase of words is best." });
      if (error instanceof CeremonyError && error.problem.code === "FT-2001") return wrong({ old: "This is not your present password." });
      if (!(error instanceof CeremonyError || error instanceof ApiError)) throw error;
      // the exchange comes after the change, so its error says nothing against that
      setUnclear(error instanceof ApiError || error.kind === "outcome_unknown");
      setFailure(error instanceof ApiError ? error : new ApiError(error.problem));
      setBusy(false);
    }
  };
  return (
    <Form onSubmit={() => void save()} busy={isBusy} label="Change password">
      <div class="hidden" aria-hidden="true">
        <input type="text" name="username" autoComplete="username" value={username} readOnly tabIndex={-1} />
      </div>
      <TextField label="Present password" type="password" autoComplete="current-password" value={it.old} onValue={set("old")} error={errors.old ?? ""} readOnly={isBusy} />
      <TextField
        label="New password"
        type="password"
        autoComplete="new-password"
        hint="At least 10 characters. A phrase of words is best."
        value={it.fresh}
        onValue={set("fresh")}
        error={errors.fresh ?? ""}
        readOnly={isBusy}
      />
      <TextField label="New password again" type="password" autoComplete="new-password" value={it.again} onValue={set("again")} error={errors.again ?? ""} readOnly={isBusy} />
      {failure && <ProblemNotice error={failure} title={isUnclear ? UNCLEAR : "The password was not changed."} />}
      <div class="form-foot">
        <Button kind="quiet" onClick={onDone} disabled={isBusy}>
          Keep the present one
        </Button>
        <Button kind="primary" type="submit" busy={isBusy} busyWords={progress || "Checking…"}>
          Change password
        </Button>
      </div>
    </Form>
  );
}

// -- sessions ------------------------------------------------------------------------------------------------------

type SessionRow = Shapes["SessionRow"];

const BROWSERS: readonly (readonly [RegExp, string])[] = [
  [/Edg\//, "Edge"],
  [/OPR\//, "Opera"],
  [/Firefox\//, "Firefox"],
  [/Chrome\//, "Chrome"],
  [/Safari\//, "Safari"],
];
const SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/iPhone/, "iPhone"],
  [/iPad/, "iPad"],
  [/Android/, "Android"],
  [/Windows/, "Windows"],
  [/Mac OS X/, "macOS"],
  [/Linux/, "Linux"],
];

/** Say in words what signed in: a browser on a system, or what it calls itself. */
export function agentWords(agent: string): string {
  const named = (table: typeof BROWSERS) => table.find(([pattern]) => pattern.test(agent))?.[1];
  const [browser, system] = [named(BROWSERS), named(SYSTEMS)];
  if (browser && system) return `${browser} on ${system}`;
  return browser ?? (agent.slice(0, 60) || "Not told");
}

function Sessions() {
  const sessions = useLoaded((signal) => api.get("/api/sessions", { signal }), []);
  const [ending, setEnding] = useState<SessionRow | null>(null);
  return (
    <Block of={sessions} title="Where you are signed in" isEmpty={(data) => data.sessions.length === 0} empty={<Empty words="The bank tells of no session." />}>
      {(data) => (
        <>
          <Table<SessionRow>
            caption="Where you are signed in"
            rows={data.sessions}
            keyOf={(row) => row.id}
            columns={[
              { head: "With", cell: (row) => agentWords(row.agent), isHead: true },
              { head: "From", cell: (row) => row.address },
              { head: "Since", cell: (row) => <When time={row.since} /> },
              {
                head: "State",
                cell: (row) =>
                  row.current ? (
                    <Status tone="ok">This one</Status>
                  ) : (
                    <Button small onClick={() => setEnding(row)} label={`Sign out ${agentWords(row.agent)}, ${row.address}`}>
                      Sign out
                    </Button>
                  ),
                align: "end",
              },
            ]}
          />
          {ending && <EndSession row={ending} onClose={() => setEnding(null)} onEnded={sessions.reload} />}
        </>
      )}
    </Block>
  );
}

function EndSession({ row, onClose, onEnded }: { row: SessionRow; onClose: () => void; onEnded: () => void }) {
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const end = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      await api.delete("/api/sessions/{id}", { path: { id: row.id } });
      toast("That session is ended.", "ok");
      onEnded();
      onClose();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <Dialog
      title="Sign out there?"
      onClose={onClose}
      busy={isBusy}
      actions={
        <Button kind="danger" busy={isBusy} busyWords="Signing out…" onClick={() => void end()}>
          Sign out there
        </Button>
      }
    >
      <p>
        {agentWords(row.agent)} at {row.address} is signed out at once. If that was not you, change your password too.
      </p>
      {failure && <ProblemNotice error={failure} />}
    </Dialog>
  );
}

// -- limits --------------------------------------------------------------------------------------------------------

type Account = Shapes["Account"];

function LimitsBlock() {
  const accounts = useLoaded((signal) => api.get("/api/accounts", { signal }), [], { live: true });
  const cell = (pick: (account: Account) => string | null, rest?: (account: Account) => string | null) => (account: Account) => {
    const limit = pick(account);
    if (limit === null) return <span class="muted">No limit</span>;
    const left = rest?.(account) ?? null;
    return (
      <>
        <Amount minor={limit} currency={account.currency} />
        {left !== null && (
          <small class="left muted">
            <Amount minor={left} currency={account.currency} /> left
          </small>
        )}
      </>
    );
  };
  return (
    <Block of={accounts} title="Limits" isEmpty={(data) => data.accounts.length === 0} empty={<Empty words="You have no account yet." />}>
      {(data) => (
        <>
          <Table<Account>
            caption="Limits of your accounts"
            rows={data.accounts}
            keyOf={(account) => String(account.number)}
            columns={[
              { head: "Account", cell: (account) => `${account.currency} ${grouped(account.number)}`, isHead: true },
              { head: "One payment", cell: cell((account) => account.limit_payment), align: "end" },
              { head: "A day", cell: cell((account) => account.limit_day, (account) => account.left_day), align: "end" },
              { head: "A month", cell: cell((account) => account.limit_month, (account) => account.left_month), align: "end" },
            ]}
          />
          <p class="muted">Only your bank can change these; two of its administrators must agree.</p>
        </>
      )}
    </Block>
  );
}

// -- theme ---------------------------------------------------------------------------------------------------------

function Looks() {
  const now = useStore(theme);
  return (
    <ChoiceField
      label="Theme"
      value={now}
      onValue={setTheme}
      options={[
        { value: "system", label: "As the device" },
        { value: "light", label: "Light" },
        { value: "dark", label: "Dark" },
      ]}
    />
  );
}
