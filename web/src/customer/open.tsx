/** Open an account: choose a currency. */

import { useRef, useState } from "preact/hooks";
import { api, ApiError } from "../api";
import { Button, focusFirstError, Form, LinkButton, ProblemNotice, SelectField, TextField, toast } from "../components";
import { newId } from "../ids";
import { go } from "../router";
import { serverNow } from "../time";
import { CustomerPage } from "./page";
import { grouped } from "./words";

const COMMON = ["EUR", "USD", "GBP", "CHF", "JPY", "CAD", "AUD", "SEK", "NOK", "DKK", "PLN", "CZK"];
const OTHER = "other";

function nameOf(currency: string): string {
  try {
    return new Intl.DisplayNames(undefined, { type: "currency" }).of(currency) ?? currency;
  } catch {
    return currency;
  }
}

export function OpenAccount() {
  const [chosen, setChosen] = useState("EUR");
  const [typed, setTyped] = useState("");
  const [error, setError] = useState("");
  const [failure, setFailure] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  // One id for each intention: the same currency again, after no answer, opens one account.
  const intended = useRef({ currency: "", id: "" });
  const isRunning = useRef(false);
  const currency = chosen === OTHER ? typed.trim().toUpperCase() : chosen;

  const open = async (): Promise<void> => {
    const isCode = /^[A-Z]{3}$/.test(currency);
    setError(isCode ? "" : "A currency has three letters, such as HUF.");
    if (!isCode) return focusFirstError();
    if (isRunning.current) return;
    isRunning.current = true;
    setBusy(true);
    setFailure(null);
    if (intended.current.currency !== currency) intended.current = { currency, id: newId(serverNow()) };
    try {
      const account = await api.post("/api/accounts", { body: { id: intended.current.id, currency } });
      toast(`Your ${account.currency} account ${grouped(account.number)} is open.`, "ok");
      go(`/accounts/${account.number}`, { replace: true });
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      if (problem.isRefusal) intended.current = { currency: "", id: "" };
      setFailure(problem);
      setBusy(false);
    } finally {
      isRunning.current = false;
    }
  };
  return (
    <CustomerPage title="Open an account" lead="It is yours at once." narrow back={{ href: "/", label: "Your accounts" }}>
      <div class="card">
      <Form onSubmit={() => void open()} busy={isBusy} label="Open an account">
        <SelectField
          label="Currency"
          value={chosen}
          onValue={(value) => {
            setChosen(value);
            setError("");
          }}
          options={[...COMMON.map((code) => ({ value: code, label: `${code}: ${nameOf(code)}` })), { value: OTHER, label: "Another currency" }]}
        />
        {chosen === OTHER && (
          <TextField label="Code of the currency" hint="Three letters (ISO 4217), such as HUF." value={typed} onValue={setTyped} error={error} maxLength={3} exact />
        )}
        {failure && <ProblemNotice error={failure} title="The account was not opened." retry={() => void open()} />}
        <div class="form-foot">
          <LinkButton href="/" kind="quiet">
            Back
          </LinkButton>
          <Button kind="primary" type="submit" busy={isBusy} busyWords="Opening…">
            {`Open ${/^[A-Z]{3}$/.test(currency) ? currency : "the"} account`}
          </Button>
        </div>
      </Form>
      </div>
    </CustomerPage>
  );
}
