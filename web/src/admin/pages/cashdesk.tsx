/** Cash over the counter: into an account or out of it. The order's id outlives a reload until the outcome is known. */

import { useState } from "preact/hooks";
import { Amount, Button, ChoiceField, Facts, Form, Page, TextField } from "../../components";
import { calls } from "../calls";
import { dropCash, keepCash, keptCash, type Cash } from "../counter";
import { failureOf } from "../failures";
import { amountText, readAmount } from "../money";
import { ActFailure, State } from "../parts";
import { newId } from "../../ids";
import type { Account } from "../types";
import { useWho } from "../who";
import { accountState } from "../words";

type Step =
  | { name: "form" }
  | { name: "check"; account: Account; cash: Cash }
  | { name: "sending"; cash: Cash }
  | { name: "unknown"; cash: Cash; failure: unknown }
  | { name: "done"; cash: Cash; balance: string | null };

const verb = (cash: Pick<Cash, "way">): string => (cash.way === "deposit" ? "Pay in" : "Pay out");

export function CashDesk() {
  const who = useWho();
  const kept = keptCash(who.username);
  const [step, setStep] = useState<Step>(kept ? { name: "unknown", cash: kept, failure: null } : { name: "form" });
  const [failure, setFailure] = useState<unknown>(null);

  async function send(cash: Cash) {
    keepCash(cash);
    setStep({ name: "sending", cash });
    setFailure(null);
    try {
      await calls.cash(cash);
    } catch (error) {
      if (!failureOf(error).isDefinite) return setStep({ name: "unknown", cash, failure: error });
      dropCash();
      setFailure(error);
      return setStep({ name: "form" });
    }
    dropCash();
    const balance = await calls.account(cash.account).then(
      (found) => found.account.balance,
      () => null,
    );
    setStep({ name: "done", cash, balance });
  }

  return (
    <Page title="Cash desk"
      lead="Count the money first. What is booked here is in the customer's account at once."
    >
      <div class="card desk">
        {failure !== null && <ActFailure failure={failure} />}
        {step.name === "form" && <OrderForm who={who.username} onCheck={(account, cash) => setStep({ name: "check", account, cash })} onFailure={setFailure} />}
        {step.name === "check" && (
          <CheckStep account={step.account} cash={step.cash} onBack={() => setStep({ name: "form" })} onSend={() => void send(step.cash)} />
        )}
        {step.name === "sending" && <p role="status">Booking…</p>}
        {step.name === "unknown" && <Unknown cash={step.cash} failure={step.failure} onAgain={() => void send(step.cash)} />}
        {step.name === "done" && <Finished cash={step.cash} balance={step.balance} onNext={() => setStep({ name: "form" })} />}
      </div>
    </Page>
  );
}

interface FormProps {
  who: string;
  onCheck: (account: Account, cash: Cash) => void;
  onFailure: (failure: unknown) => void;
}

function OrderForm({ who, onCheck, onFailure }: FormProps) {
  const [way, setWay] = useState<Cash["way"]>("deposit");
  const [number, setNumber] = useState("");
  const [account, setAccount] = useState<Account | null>(null);
  const [amount, setAmount] = useState("");
  const [reference, setReference] = useState("");
  const [tried, setTried] = useState(false);
  const minor = account ? readAmount(amount, account.currency) : null;
  const isAmount = minor !== null && BigInt(minor) > 0n;

  async function find() {
    onFailure(null);
    setAccount(null);
    if (!/^[1-9][0-9]{2,15}$/.test(number)) return;
    try {
      setAccount((await calls.account(Number(number))).account);
    } catch (error) {
      onFailure(error);
    }
  }

  function check() {
    setTried(true);
    if (!account) return void find();
    if (!isAmount || minor === null) return;
    const order = { account: account.number, amount: minor, currency: account.currency, reference: reference.trim() };
    onCheck(account, { way, by: who, id: newId(), ...order });
  }

  return (
    <Form onSubmit={check}>
      <ChoiceField
        label="What is to be done"
        value={way}
        options={[
          { value: "deposit", label: "Pay cash in" },
          { value: "withdrawal", label: "Pay cash out" },
        ]}
        onValue={setWay}
      />
      <TextField
        label="Account number"
        value={number}
        onValue={(value) => {
          setNumber(value.replace(/\s/g, ""));
          setAccount(null);
        }}
        onLeave={() => void find()}
        error={tried && number === "" ? "Write the account's number." : ""}
        inputMode="numeric"
        maxLength={19}
      />
      {account && (
        <p class="found" role="status">
          <strong>{account.owner || "The bank's own account"}</strong>
          <State told={accountState(account.state)} />
          <span class="quiet">
            Available <Amount minor={account.available} currency={account.currency} />
          </span>
        </p>
      )}
      <TextField
        label={account ? `Amount in ${account.currency}` : "Amount"}
        value={amount}
        onValue={setAmount}
        error={tried && account && !isAmount ? "Write an amount such as 250 or 250.00." : ""}
        inputMode="decimal"
        maxLength={24}
      />
      <TextField label="Reference" value={reference} onValue={setReference} hint="It may be left empty. The customer sees it." maxLength={140} />
      <div class="form-foot">
        <Button type="submit" kind="primary">
          Check
        </Button>
      </div>
    </Form>
  );
}

function Summary({ cash, owner }: { cash: Cash; owner?: string }) {
  return (
    <Facts
      of={[
        ["What", cash.way === "deposit" ? "Cash in" : "Cash out"],
        ["Amount", <strong><Amount minor={cash.amount} currency={cash.currency} /></strong>],
        ["Account", String(cash.account)],
        ...(owner === undefined ? [] : ([["Owner", owner || "The bank"]] as [string, string][])),
        ["Reference", cash.reference || "–"],
      ]}
    />
  );
}

function CheckStep({ account, cash, onBack, onSend }: { account: Account; cash: Cash; onBack: () => void; onSend: () => void }) {
  const [sent, setSent] = useState(false);
  return (
    <section aria-label="Check">
      <Summary cash={cash} owner={account.owner} />
      <div class="form-foot">
        <Button
          kind="primary"
          disabled={sent}
          onClick={() => {
            setSent(true);
            onSend();
          }}
        >
          {verb(cash)} {amountText(cash.amount, cash.currency)} {cash.currency}
        </Button>
        <Button onClick={onBack}>
          Back
        </Button>
      </div>
    </section>
  );
}

function Unknown({ cash, failure, onAgain }: { cash: Cash; failure: unknown; onAgain: () => void }) {
  return (
    <section aria-label="Not known yet" role="alert">
      <h2>We do not know yet whether this was booked</h2>
      <Summary cash={cash} />
      <p>Ask again before any money changes hands. It is the same order under the same number, so it is booked once at most.</p>
      {failure !== null && <ActFailure failure={failure} />}
      <Button kind="primary" onClick={onAgain}>
        Ask again
      </Button>
    </section>
  );
}

function Finished({ cash, balance, onNext }: { cash: Cash; balance: string | null; onNext: () => void }) {
  return (
    <section aria-label="Done" role="status">
      <h2>{cash.way === "deposit" ? "Paid in" : "Booked. Hand out the money."}</h2>
      <Summary cash={cash} />
      {balance !== null && (
        <p>
          The account now holds <Amount minor={balance} currency={cash.currency} />.
        </p>
      )}
      <Button kind="primary" onClick={onNext}>
        Next customer
      </Button>
    </section>
  );
}
