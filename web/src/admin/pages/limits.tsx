/** Set floor and limits of an account; a second administrator must agree. */

import { useState } from "preact/hooks";
import { CheckField, TextField } from "../../components";
import { ActDialog } from "../acts";
import { calls } from "../calls";
import { amountText, readAmount } from "../money";
import type { Account } from "../types";

interface Props {
  account: Account;
  onClose: () => void;
  onDone: () => void;
}

type Name = "floor" | "payment" | "day" | "month";
type Texts = Record<Name, string>;

const LABELS: Record<Name, [string, string]> = {
  floor: ["Lowest balance", "0 for no overdraft, -500 to let it go that far below zero; empty for no lower end."],
  payment: ["For one payment", "Empty for no limit."],
  day: ["For a day", "Empty for no limit."],
  month: ["For a month", "Empty for no limit."],
};

function textsOf(account: Account): Texts {
  const text = (minor: string | null) => (minor === null ? "" : amountText(minor, account.currency));
  return {
    floor: text(account.floor),
    payment: text(account.limit_payment),
    day: text(account.limit_day),
    month: text(account.limit_month),
  };
}

/** Read what was typed: minor units, null for empty, or undefined for what is no amount. */
function valueOf(name: Name, text: string, currency: string): string | null | undefined {
  if (text.trim() === "") return null;
  const minor = readAmount(text, currency);
  if (minor === null) return undefined;
  if (name !== "floor" && BigInt(minor) <= 0n) return undefined;
  return minor;
}

export function LimitsDialog({ account, ...props }: Props) {
  const [texts, setTexts] = useState<Texts>(() => textsOf(account));
  const [signedOnly, setSignedOnly] = useState(account.signed_orders_only);
  const value = (name: Name) => valueOf(name, texts[name], account.currency);
  const isReady = (Object.keys(LABELS) as Name[]).every((name) => value(name) !== undefined);
  const input = (name: Name) => (
    <TextField
      key={name}
      label={`${LABELS[name][0]} (${account.currency})`}
      hint={LABELS[name][1]}
      value={texts[name]}
      onValue={(text) => setTexts({ ...texts, [name]: text })}
      error={value(name) === undefined ? "Write an amount such as 250 or 250.00." : ""}
      inputMode={name === "floor" ? "text" : "decimal"}
      maxLength={24}
    />
  );
  return (
    <ActDialog
      {...props}
      title={`Limits of account ${account.number}`}
      act="Ask for these limits"
      second
      ready={isReady}
      run={(id) =>
        calls.setLimits(account.number, {
          id,
          floor: value("floor") ?? null,
          payment: value("payment") ?? null,
          day: value("day") ?? null,
          month: value("month") ?? null,
          signed_orders_only: signedOnly,
        })
      }
    >
      {(Object.keys(LABELS) as Name[]).map(input)}
      <CheckField label="Only signed payment orders" value={signedOnly} onValue={setSignedOnly} />
    </ActDialog>
  );
}
