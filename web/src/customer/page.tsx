/** What all pages of customers have in common: who is signed in, and the strip of payments that are not over. */

import type { ComponentChildren } from "preact";
import { Button, Icon, Page, Status } from "../components";
import { formatMoney } from "../money";
import { present } from "../session";
import { useStore } from "../store";
import { isOver, type Kept } from "./orders";
import { outboxOfMine, useOrders } from "./sending";
import { phaseWord } from "./words";

export interface Mine {
  bank: string;
  username: string;
  /** Key of what this browser keeps for this person. */
  whose: string;
}

/** Who is signed in; pages are shown only while somebody is. */
export function useMine(): Mine {
  const { session } = useStore(present);
  const bank = session?.bank ?? "";
  const username = session?.username ?? "";
  return { bank, username, whose: `${bank}.${username}` };
}

type Props = Parameters<typeof Page>[0] & {
  children: ComponentChildren;
  /** A payment that the page itself shows. */
  shown?: string;
};

/** A page with the strip above it. */
export function CustomerPage({ children, shown = "", ...page }: Props) {
  return (
    <>
      <Strip except={shown} narrow={page.narrow ?? false} />
      <Page {...page}>{children}</Page>
    </>
  );
}

/** Payments that were begun in this browser and are not over. */
function Strip({ except, narrow }: { except: string; narrow: boolean }) {
  const open = useOrders().filter((kept) => !isOver(kept) && kept.order.id !== except);
  if (open.length === 0) return null;
  return (
    <section class={narrow ? "strip page-narrow" : "strip"} aria-label="In progress">
      <h2 class="strip-head">
        <Icon name="clock" size={18} />
        <span>In progress</span>
      </h2>
      <ul role="list">
        {open.map((kept) => (
          <StripLine key={kept.order.id} kept={kept} />
        ))}
      </ul>
    </section>
  );
}

function StripLine({ kept: { order, payeeName, phase } }: { kept: Kept }) {
  const { tone, word } = phaseWord(phase);
  return (
    <li class="strip-line">
      <a href={`/payments/${order.id}`}>
        {formatMoney(order.amount, order.currency)} to {payeeName}
      </a>
      <Status tone={tone}>{word}</Status>
      {phase === "not_sent" && (
        <Button small onClick={() => outboxOfMine()?.again(order.id)} label={`Try again: ${formatMoney(order.amount, order.currency)} to ${payeeName}`}>
          Try again
        </Button>
      )}
    </li>
  );
}
