/**
 * One payment: how far it is, what happened when and where, and the proof.
 *
 * An order of this browser that is not over shows what the outbox knows; everything else is asked of the bank.
 */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, ApiError, type Shapes } from "../api";
import { Amount, announce, Block, Button, Facts, LinkButton, Notice, ProblemNotice, sentence, Status, toast } from "../components";
import { idInGroups } from "../ids";
import { type Loaded, useLoaded } from "../loaded";
import { formatMoney } from "../money";
import { go, type PageProps } from "../router";
import { present } from "../session";
import { formatTime } from "../time";
import { change } from "./draft";
import { isOver, type Kept, type Phase } from "./orders";
import { CustomerPage, type Mine, useMine } from "./page";
import { Receipt } from "./receipt";
import { outboxOfMine, useOrders } from "./sending";
import { Timeline } from "./timeline";
import { adviceFor, grouped, partyOf, phaseWord, type Tone } from "./words";

type Payment = Shapes["Payment"];

/** So often an unfinished payment is looked at, besides when entries arrive. */
const LOOK_MS = 1_500;

export function PaymentPage({ params, query }: PageProps) {
  const id = params["id"] ?? "";
  const mine = useMine();
  const kept = useOrders().find((each) => each.order.id === id);
  const isOpen = kept !== undefined && !isOver(kept);
  const payment = useLoaded(
    (signal) => api.get("/api/payments/{id}", { path: { id }, signal, ...(isOpen ? { patience_ms: 0 } : {}) }),
    [id],
    // There is nothing to read before the bank has it.
    { live: true, skip: kept?.phase === "sending" },
  );
  const isUnfinished = isOpen ? kept.phase === "held" || kept.phase === "unknown" : payment.data?.state === "pending";
  useEffect(() => {
    if (!isUnfinished) return undefined;
    const timer = setInterval(() => !document.hidden && payment.reload(), LOOK_MS);
    return () => clearInterval(timer);
  }, [isUnfinished, payment.reload]);
  useEffect(() => {
    // What the outbox learned is newer than what was loaded before.
    if (kept && kept.phase !== "sending") payment.reload();
  }, [kept?.phase]);
  return (
    <CustomerPage title="Payment" narrow shown={id} back={{ href: "/activity", label: "Activity" }}>
      {query.get("kept") === "no" && isOpen && <NotKept />}
      {kept ? <KeptPayment kept={kept} payment={payment} mine={mine} /> : <ToldPayment payment={payment} mine={mine} />}
    </CustomerPage>
  );
}

function NotKept() {
  return (
    <Notice tone="warning" title="Keep this page open until there is an answer.">
      Your browser does not let pages store anything, so this payment would not be asked about after a reload.
    </Notice>
  );
}

interface Shown {
  payment: Loaded<Payment>;
  mine: Mine;
}

// -- begun in this browser -----------------------------------------------------------------------------------------

function KeptPayment({ kept, payment, mine }: Shown & { kept: Kept }) {
  const { order, payeeName, phase } = kept;
  const data = payment.data;
  const told = data && data.state !== "refused" ? data : undefined;
  const before = useRef(phase);
  useEffect(() => {
    if (before.current !== phase) announce(`${phaseWord(phase).word}: ${formatMoney(order.amount, order.currency)} to ${payeeName}.`);
    before.current = phase;
  }, [phase]);
  return (
    <>
      <Head phase={phase} minor={order.amount} currency={order.currency} with={`to ${payeeName}`}>
        <Explanation kept={kept} />
      </Head>
      <section class="card block" aria-label="Details">
        <Details
          payer={`${mine.bank}/${order.debit}`}
          payee={order.payee}
          payeeName={payeeName}
          reference={order.reference}
          id={order.id}
          balance={told?.balance ? formatMoney(told.balance, order.currency) : ""}
          mine={mine}
        />
        <h2>What happened</h2>
        <Timeline created={new Date(kept.made).toISOString()} steps={stepsOf(kept, data)} missing={data?.missing ?? []} isOpen={!isOver(kept) && phase !== "not_sent"} />
      </section>
      {phase === "done" && <Receipt id={order.id} />}
      {isOver(kept) && <Afterwards />}
    </>
  );
}

/** What the bank tells; where it keeps nothing of a refusal, what it answered. */
function stepsOf(kept: Kept, data: Payment | undefined): Shapes["PaymentStep"][] {
  const steps = data?.steps ?? [];
  if (steps.length > 0 || kept.phase !== "refused") return steps;
  const time = new Date(kept.changed).toISOString();
  return [{ bank: "", step: "refused", time, position: 0, reason: kept.reason }];
}

function Explanation({ kept }: { kept: Kept }): ComponentChildren {
  const { phase } = kept;
  if (phase === "sending") return <p>Waiting for the bank's answer. You may leave this page; it goes on by itself.</p>;
  if (phase === "held") {
    return <p>The money is reserved on your account. Another bank must still agree; this changes by itself.</p>;
  }
  if (phase === "unknown") return <Unknown kept={kept} />;
  if (phase === "not_sent") return <NotSent kept={kept} />;
  if (phase === "refused") return <Refused reason={kept.reason} reasonName={kept.reasonName} code={kept.code} again={() => writeAgain(kept)} />;
  return <p class="muted">{formatTime(kept.changed, "both")}</p>;
}

function Unknown({ kept }: { kept: Kept }) {
  return (
    <>
      <p>
        The bank has not answered yet, so this may have been paid or not. We keep asking with the same payment number: it
        is paid once or not at all. Please do not send it again.
      </p>
      <p class="row">
        <Button small icon="refresh" onClick={() => outboxOfMine()?.nudge()}>
          Ask now
        </Button>
        {kept.code && <span class="code">Code {kept.code}</span>}
      </p>
    </>
  );
}

function NotSent({ kept }: { kept: Kept }) {
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const putAway = async (): Promise<void> => {
    setBusy(true);
    setFailure(null);
    try {
      await outboxOfMine()?.putAway(kept.order.id);
      toast("This payment was dropped. Nothing was paid.", "ok");
      go("/", { replace: true });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <>
      <p>{sentence(kept.reason) || "Nothing was paid."} You can try it again, or drop it.</p>
      {failure && <ProblemNotice error={failure} title="It cannot be dropped yet: first the bank must say that nothing was paid." />}
      <p class="row">
        <Button kind="primary" icon="refresh" onClick={() => outboxOfMine()?.again(kept.order.id)}>
          Try again
        </Button>
        <Button busy={isBusy} busyWords="Asking the bank…" onClick={() => void putAway()}>
          Drop this payment
        </Button>
        {kept.code && <span class="code">Code {kept.code}</span>}
      </p>
    </>
  );
}

/** Begin a new payment with the same content; it gets an id of its own. */
function writeAgain({ order, payeeName }: Kept): void {
  change({
    debit: order.debit,
    currency: order.currency,
    typed: order.payee,
    payee: { payee: order.payee, name: payeeName, currency: order.currency },
    reference: order.reference,
    typedAmount: "",
    amount: "",
  });
  go("/send?step=amount");
}

// -- told by the bank ----------------------------------------------------------------------------------------------

const PHASE_OF: Record<Payment["state"], Phase> = { pending: "held", done: "done", refused: "refused", given_up: "not_sent" };

function ToldPayment({ payment, mine }: Shown) {
  const accounts = useLoaded((signal) => api.get("/api/accounts", { signal }), [], { skip: present.get().session?.kind !== "bank" });
  const own = new Set(accounts.data?.accounts.map((account) => `${mine.bank}/${account.number}`));
  return (
    <Block of={payment} bare lines={6}>
      {(data) => (
        <>
          <Told data={data} mine={mine} own={own} />
          {data.state === "done" && <Receipt id={data.id} />}
          <Afterwards />
        </>
      )}
    </Block>
  );
}

function Told({ data, mine, own }: { data: Payment; mine: Mine; own: ReadonlySet<string> }) {
  const phase = PHASE_OF[data.state];
  const isIn = own.has(data.payee) && !own.has(data.payer);
  const other = isIn ? data.payer : data.payee;
  const party = partyOf(other, mine.bank);
  const account = `${isIn ? "from" : "to"} account ${grouped(party.number)}${party.bank ? ` at bank ${party.bank}` : ""}`;
  return (
    <>
      <Head phase={phase} minor={data.amount} currency={data.currency} with={other && account} word={isIn && phase === "done" ? "Received" : ""}>
        {phase === "done" && <p class="muted">{formatTime(data.time, "both")}</p>}
        {phase === "held" && <p>The money is reserved. A bank must still act; this changes by itself.</p>}
        {phase === "not_sent" && <p>This was given up before it was decided. Nothing was paid.</p>}
        {phase === "refused" && <Refused reason={data.reason ?? ""} reasonName={data.reason_name ?? ""} code="" />}
      </Head>
      <section class="card block" aria-label="Details">
        <Details payer={data.payer} payee={data.payee} payeeName="" reference={data.reference} id={data.id} balance="" mine={mine} />
        <h2>What happened</h2>
        <Timeline created="" steps={data.steps ?? []} missing={data.missing ?? []} isOpen={phase === "held"} />
      </section>
    </>
  );
}

function Refused({ reason, reasonName, code, again }: { reason: string; reasonName: string; code: string; again?: () => void }) {
  const advice = adviceFor(reasonName);
  return (
    <>
      <p>
        <strong>{sentence(reason) || "The bank refused this."}</strong> Nothing was paid.
      </p>
      {advice && <p>{advice}</p>}
      <p class="row">
        {again && (
          <Button kind="primary" onClick={again}>
            Change and send again
          </Button>
        )}
        {code && <span class="code">Code {code}</span>}
      </p>
    </>
  );
}

// -- both ----------------------------------------------------------------------------------------------------------

const TITLES: Record<Phase, string> = {
  sending: "Sending…",
  unknown: "We do not know yet",
  held: "On hold",
  not_sent: "Not sent",
  done: "Done",
  refused: "Refused",
};

interface HeadProps {
  phase: Phase;
  minor: string;
  currency: string;
  /** To or from whom. */
  with: string;
  /** Instead of the state's own word. */
  word?: string;
  children: ComponentChildren;
}

function Head({ phase, minor, currency, with: party, word = "", children }: HeadProps) {
  const tone: Tone = phaseWord(phase).tone;
  return (
    <section class={`card outcome tone-${tone}`} aria-label="Where it stands" data-phase={phase}>
      <Status tone={tone}>{word || TITLES[phase]}</Status>
      {currency && (
        <p class="outcome-sum">
          <Amount minor={minor} currency={currency} large />
        </p>
      )}
      {party && <p class="outcome-to">{party}</p>}
      <div class="outcome-words">{children}</div>
    </section>
  );
}

interface DetailsProps {
  payer: string;
  payee: string;
  payeeName: string;
  reference: string;
  id: string;
  balance: string;
  mine: Mine;
}

function Details({ payer, payee, payeeName, reference, id, balance, mine }: DetailsProps) {
  return (
    <Facts
      of={[
        ["From", payer && <Party of={payer} mine={mine} />],
        ["To", payee && <Party of={payee} mine={mine} name={payeeName} />],
        ["Reference", reference],
        ["Balance after", balance],
        ["Payment number", <span key="id" class="code">{idInGroups(id)}</span>],
      ]}
    />
  );
}

function Party({ of, mine, name = "" }: { of: string; mine: Mine; name?: string }) {
  const { bank, number } = partyOf(of, mine.bank);
  return (
    <>
      {name && `${name}, `}
      <span class="number">{grouped(number)}</span>
      {bank && ` at bank ${bank}`}
    </>
  );
}

function Afterwards() {
  return (
    <p class="row afterwards">
      <LinkButton href="/">Go to your accounts</LinkButton>
      <LinkButton href="/send" icon="send">
        Send more
      </LinkButton>
    </p>
  );
}

