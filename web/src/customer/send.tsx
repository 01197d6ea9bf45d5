/** Send money in three steps: who, how much, check. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, ApiError, type Shapes } from "../api";
import { Amount, Block, Button, Empty, Facts, focusFirstError, Form, LinkButton, ProblemNotice, SelectField, sentence, TextField } from "../components";
import { type Loaded, useLoaded } from "../loaded";
import { amountWords, formatMoney, parseAmount } from "../money";
import { go, type PageProps } from "../router";
import { exchange } from "../session";
import { useStore } from "../store";
import { CeremonyError, ceremonies } from "../worker/client";
import { beginDraft, change, clearDraft, type Draft, draft, identify, orderOf } from "./draft";
import { CustomerPage, type Mine, useMine } from "./page";
import { type Known, knownPayees, rememberPayee } from "./payees";
import { outboxOfMine } from "./sending";
import { grouped, partyOf } from "./words";

type Account = Shapes["Account"];
type Step = "who" | "amount" | "check";

const STEPS: readonly { step: Step; words: string }[] = [
  { step: "who", words: "Who" },
  { step: "amount", words: "How much" },
  { step: "check", words: "Check" },
];

/** The furthest step for which everything is there. */
function stepOf(wanted: string | null, it: Draft): Step {
  if (!it.payee || !it.debit) return "who";
  if (wanted === "check" && it.amount) return "check";
  return wanted === "check" || wanted === "amount" ? "amount" : "who";
}

export function Send({ query }: PageProps) {
  const mine = useMine();
  beginDraft(mine.whose);
  const it = useStore(draft);
  const accounts = useLoaded((signal) => api.get("/api/accounts", { signal }), [], { live: true });
  const step = stepOf(query.get("step"), it);
  return (
    <CustomerPage title="Send money" narrow>
      <Steps now={step} />
      <Block
        of={accounts}
        bare
        isEmpty={(data) => payers(data.accounts).length === 0}
        empty={<NoAccount />}
        assurance="Nothing was sent."
      >
        {(data) => <StepBody key={step} step={step} it={it} accounts={payers(data.accounts)} mine={mine} />}
      </Block>
    </CustomerPage>
  );
}

/** Accounts that money can be sent from. */
const payers = (accounts: Account[]): Account[] => accounts.filter((account) => account.state === "open");

function NoAccount() {
  return (
    <div class="card">
      <Empty
        words="You need an open account of your own to send money from."
        action={<LinkButton href="/accounts/new" kind="primary">Open an account</LinkButton>}
      />
    </div>
  );
}

function Steps({ now }: { now: Step }) {
  const at = STEPS.findIndex(({ step }) => step === now);
  return (
    <ol class="steps" aria-label="Steps">
      {STEPS.map(({ step, words }, place) => (
        <li key={step} class={place < at ? "step step-over" : "step"} aria-current={step === now ? "step" : undefined}>
          {place < at ? <a href={`/send?step=${step}`}>{words}</a> : <span>{words}</span>}
        </li>
      ))}
    </ol>
  );
}

interface StepProps {
  it: Draft;
  accounts: Account[];
  mine: Mine;
}

function StepBody({ step, ...props }: StepProps & { step: Step }) {
  const from = props.accounts.find((account) => account.number === props.it.debit);
  if (step === "who" || !from) return <Who {...props} />;
  return step === "amount" ? <HowMuch {...props} from={from} /> : <Check {...props} from={from} />;
}

const optionOf = (account: Account) => ({
  value: String(account.number),
  label: `${account.currency} account ${grouped(account.number)}: ${formatMoney(account.available, account.currency)} available`,
});

// -- who ---------------------------------------------------------------------------------------------------------

function Who({ it, accounts, mine }: StepProps) {
  const from = accounts.find((account) => account.number === it.debit) ?? accounts[0];
  const banks = useLoaded((signal) => api.get("/api/banks", { signal }), []);
  const [error, setError] = useState("");
  const [failure, setFailure] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const form = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (from && it.debit !== from.number) change({ debit: from.number, currency: from.currency, payee: null });
  }, [from?.number]);
  if (!from) return null;

  const find = async (typed: string): Promise<void> => {
    const payee = cleaned(typed);
    const wrong = wrongPayee(payee, mine.bank);
    setError(wrong);
    setFailure(null);
    if (wrong) return focusFirstError(form.current ?? document);
    setBusy(true);
    try {
      const found = await api.get("/api/payees", { query: { payee, currency: from.currency } });
      change({ typed: payee, payee: found, debit: from.number, currency: from.currency });
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      if (problem.status === 409 || problem.status === 404 || problem.status === 422) {
        setError(notFoundWords(problem, payee));
        focusFirstError(form.current ?? document);
      } else setFailure(problem);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="card send-body" ref={form}>
      {accounts.length > 1 && (
        <SelectField
          label="From"
          value={String(from.number)}
          onValue={(value) => {
            const chosen = accounts.find((account) => String(account.number) === value);
            if (chosen) change({ debit: chosen.number, currency: chosen.currency, payee: null, amount: "", typedAmount: "" });
          }}
          options={accounts.map(optionOf)}
        />
      )}
      {it.payee ? (
        <Found it={it} mine={mine} />
      ) : (
        <Form onSubmit={() => void find(it.typed)} busy={isBusy} label="Who gets it">
          <TextField
            label="To"
            hint="An account number or a username. At another bank: its name before it, such as b/carla."
            value={it.typed}
            onValue={(typed) => change({ typed })}
            error={error}
            maxLength={97}
            exact
          />
          <Elsewhere banks={banks} own={mine.bank} />
          {failure && <ProblemNotice error={failure} title="The bank could not tell who that is." retry={() => void find(it.typed)} assurance="Nothing was sent." />}
          <div class="form-foot">
            <Button kind="primary" type="submit" busy={isBusy} busyWords="Asking the bank…">
              Find payee
            </Button>
          </div>
          <KnownPayees mine={mine} currency={from.currency} onPick={(known) => void find(known.payee)} />
        </Form>
      )}
    </div>
  );
}

function Found({ it, mine }: { it: Draft; mine: Mine }) {
  const confirm = useRef<HTMLDivElement>(null);
  useEffect(() => confirm.current?.focus(), []);
  if (!it.payee) return null;
  const party = partyOf(it.payee.payee, mine.bank);
  const isOtherCurrency = it.payee.currency !== it.currency;
  return (
    <>
      <div class="payee" ref={confirm} tabIndex={-1} role="group" aria-label="Payee, as told by their bank">
        <p class="muted">{party.bank ? `Bank ${party.bank} says this account belongs to` : "This account belongs to"}</p>
        <p class="payee-name">{it.payee.name || "Somebody without a name"}</p>
        <p class="muted number">
          {it.payee.currency} account {grouped(party.number)}
          {party.bank && ` at bank ${party.bank}`}
        </p>
      </div>
      {isOtherCurrency && (
        <p class="warn">
          This account is in {it.payee.currency}, yours in {it.currency}. The bank does not change money: it will refuse this.
        </p>
      )}
      <div class="form-foot">
        <Button kind="quiet" onClick={() => change({ payee: null })}>
          Somebody else
        </Button>
        <Button kind="primary" onClick={() => go("/send?step=amount")}>
          Continue
        </Button>
      </div>
    </>
  );
}

function KnownPayees({ mine, currency, onPick }: { mine: Mine; currency: string; onPick: (known: Known) => void }) {
  const known = knownPayees(mine.whose).filter((each) => each.currency === currency);
  if (known.length === 0) return null;
  return (
    <div class="known">
      <h2>Paid before</h2>
      <ul role="list">
        {known.map((each) => {
          const party = partyOf(each.payee, mine.bank);
          return (
            <li key={each.payee}>
              <button type="button" class="known-payee" onClick={() => onPick(each)}>
                <span>{each.name}</span>
                <span class="muted number">
                  {grouped(party.number)}
                  {party.bank && ` at bank ${party.bank}`}
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function Elsewhere({ banks, own }: { banks: Loaded<Shapes["BankList"]>; own: string }) {
  const others = (banks.data?.banks ?? []).filter((bank) => bank.bank !== own && bank.state === "active");
  if (others.length === 0) return null;
  const words = others.map((bank) => (bank.is_connected ? bank.bank : `${bank.bank} (not connected now)`));
  return <p class="field-hint">Other banks that can be paid: {new Intl.ListFormat().format(words)}.</p>;
}

/** As the bank wants it: small letters, no spaces as people put them into numbers. */
const cleaned = (typed: string): string => typed.normalize("NFKC").replace(/\s/g, "").toLowerCase();

function wrongPayee(payee: string, own: string): string {
  if (payee === "") return "Type an account number or a username.";
  if (!/^[a-z0-9._/-]+$/.test(payee)) return "Use letters, digits, dots and dashes only.";
  const { bank, number } = partyOf(payee, own);
  if (/^\d{3,}$/.test(number) && !bank && !isAccountNumber(number)) {
    return "This account number has a typing error: its check digits do not fit.";
  }
  return "";
}

/** Check the two check digits (ISO 7064 MOD 97-10), as the bank does. */
const isAccountNumber = (number: string): boolean => BigInt(number) % 97n === 1n;

function notFoundWords(error: ApiError, payee: string): string {
  const name = error.problem.status_name;
  if (name === "customer_unknown" || error.status === 404) return `The bank knows nobody called "${payee}".`;
  if (name === "payee_bank_unknown" || name === "bank_unknown") return "There is no bank of this name that can be paid.";
  return sentence(error.problem.detail);
}

// -- how much ----------------------------------------------------------------------------------------------------

interface FromProps extends StepProps {
  from: Account;
}

function HowMuch({ it, from, mine }: FromProps) {
  const [error, setError] = useState("");
  const form = useRef<HTMLDivElement>(null);
  useEffect(() => form.current?.querySelector("input")?.focus(), []);
  const parsed = parseAmount(it.typedAmount, it.currency);
  const wrong = typeof parsed === "string" ? amountWords(parsed, it.currency) : "";
  const next = () => {
    setError(wrong);
    if (typeof parsed === "string") return focusFirstError(form.current ?? document);
    change({ amount: parsed.toString() });
    go("/send?step=check");
  };
  return (
    <div class="card send-body" ref={form}>
      <To it={it} mine={mine} />
      <Form onSubmit={next} label="How much">
        <TextField
          label="Amount"
          hint={<>Available: <Amount minor={from.available} currency={from.currency} /></>}
          value={it.typedAmount}
          onValue={(typedAmount) => {
            change({ typedAmount });
            setError("");
          }}
          onLeave={() => it.typedAmount && setError(wrong)}
          error={error}
          inputMode="decimal"
          suffix={it.currency}
          maxLength={40}
        />
        <p class="understood" role="status">{typeof parsed === "string" ? "" : afterwards(parsed, from)}</p>
        <TextField
          label="Reference"
          hint="For both of you to read. May be left empty."
          value={it.reference}
          onValue={(reference) => change({ reference: withoutControls(reference) })}
          maxLength={140}
        />
        <div class="form-foot">
          <LinkButton href="/send?step=who" kind="quiet">
            Back
          </LinkButton>
          <Button kind="primary" type="submit">
            Continue
          </Button>
        </div>
      </Form>
    </div>
  );
}

function afterwards(minor: bigint, from: Account): string {
  const sum = formatMoney(minor, from.currency);
  const left = BigInt(from.available) - minor;
  if (left < 0n) return `${sum} is more than is available now. The bank will refuse it unless money comes in before.`;
  if (from.limit_payment !== null && minor > BigInt(from.limit_payment)) {
    return `${sum} is over this account's limit of ${formatMoney(from.limit_payment, from.currency)} for one payment. The bank will refuse it.`;
  }
  return `${sum}. Available afterwards: ${formatMoney(left, from.currency)}.`;
}

const withoutControls = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, " ");

function To({ it, mine }: { it: Draft; mine: Mine }) {
  const party = partyOf(it.payee?.payee ?? "", mine.bank);
  return (
    <p class="to">
      <span class="muted">To</span> <strong>{it.payee?.name}</strong>
      <span class="muted number">
        {grouped(party.number)}
        {party.bank && ` at bank ${party.bank}`}
      </span>
    </p>
  );
}

// -- check -------------------------------------------------------------------------------------------------------

function Check({ it, from, mine }: FromProps) {
  const [password, setPassword] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [progress, setProgress] = useState("");
  const [failure, setFailure] = useState<CeremonyError | ApiError | null>(null);
  const [asksPassword, setAsks] = useState(false);
  const wasSent = useRef(false);
  const card = useRef<HTMLDivElement>(null);
  useEffect(() => card.current?.focus(), []);
  useEffect(identify, [it.id]);
  useEffect(() => {
    if (!from.signed_orders_only) return;
    void ceremonies.holdsKey(mine.username).then((holds) => setAsks(!holds), () => setAsks(true));
  }, [from.signed_orders_only, mine.username]);
  const party = partyOf(it.payee?.payee ?? "", mine.bank);
  const sum = formatMoney(it.amount, it.currency);

  const send = async (): Promise<void> => {
    // A second click comes before the page has changed; the id is the same anyway.
    if (wasSent.current || !it.id) return;
    wasSent.current = true;
    setBusy(true);
    setFailure(null);
    try {
      const order = orderOf(it);
      if (from.signed_orders_only) {
        if (asksPassword) await exchange((await ceremonies.signIn(mine.username, password, setProgress)).token);
        const signable = { bank: mine.bank, ...order };
        order.signature = await ceremonies.signOrder(mine.username, signable);
      }
      submit(it, order, mine);
    } catch (error) {
      if (!(error instanceof CeremonyError || error instanceof ApiError)) throw error;
      wasSent.current = false;
      setFailure(error);
      setAsks(from.signed_orders_only);
      setBusy(false);
    }
  };
  return (
    <div class="card send-body">
      <div class="check-card" ref={card} tabIndex={-1} role="group" aria-label="What you are about to send">
        <p class="check-sum">
          <Amount minor={it.amount} currency={it.currency} large />
        </p>
        <Facts
          of={[
            ["To", <strong key="name">{it.payee?.name}</strong>],
            ["Account", <span key="to" class="number">{grouped(party.number)}</span>],
            ["At", party.bank ? `Bank ${party.bank}` : `Bank ${mine.bank}, as you`],
            ["From", <span key="from" class="number">{grouped(from.number)}</span>],
            ["Reference", it.reference],
          ]}
        />
      </div>
      <Form onSubmit={() => void send()} busy={isBusy} label="Check and send">
        {asksPassword && (
          <SignField value={password} onValue={setPassword} busy={isBusy} progress={progress} />
        )}
        {failure && <SignFailure error={failure} />}
        <p class="muted">A payment that was booked cannot be called back.</p>
        <div class="form-foot">
          <LinkButton href="/send?step=amount" kind="quiet">
            Back
          </LinkButton>
          <Button kind="primary" type="submit" icon="send" busy={isBusy} busyWords={progress || "Sending…"} disabled={asksPassword && password === ""}>
            {`Send ${sum}`}
          </Button>
        </div>
      </Form>
    </div>
  );
}

function submit(it: Draft, order: ReturnType<typeof orderOf>, mine: Mine): void {
  const name = it.payee?.name ?? order.payee;
  const isKept = outboxOfMine()?.submit(order, name) ?? false;
  rememberPayee(mine.whose, { payee: order.payee, name, currency: order.currency });
  clearDraft();
  go(`/payments/${order.id}${isKept ? "" : "?kept=no"}`, { replace: true });
}

interface SignProps {
  value: string;
  onValue: (value: string) => void;
  busy: boolean;
  progress: string;
}

function SignField({ value, onValue, busy, progress }: SignProps) {
  return (
    <TextField
      label="Password"
      type="password"
      autoComplete="current-password"
      hint={progress || "This account takes signed orders only. Your password makes the key that signs; it does not leave this device."}
      value={value}
      onValue={onValue}
      readOnly={busy}
    />
  );
}

function SignFailure({ error }: { error: CeremonyError | ApiError }): ComponentChildren {
  const shown = error instanceof ApiError ? error : new ApiError(error.problem);
  return <ProblemNotice error={shown} title="The order could not be signed." assurance="Nothing was sent." />;
}
