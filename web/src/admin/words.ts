/** What the bank's words for states mean to people: a tone, a word, and never the colour alone. */

export type Tone = "ok" | "info" | "warning" | "danger" | "neutral";

export interface Told {
  tone: Tone;
  word: string;
}

const ACCOUNT: Record<string, Told> = {
  open: { tone: "ok", word: "Open" },
  debit_frozen: { tone: "warning", word: "Frozen for payments out" },
  frozen: { tone: "danger", word: "Frozen" },
  closed: { tone: "neutral", word: "Closed" },
};

const PERSON: Record<string, Told> = {
  active: { tone: "ok", word: "Active" },
  locked: { tone: "danger", word: "Locked" },
  erased: { tone: "neutral", word: "Erased" },
};

const NODE: Record<string, Told> = {
  ok: { tone: "ok", word: "Well" },
  alone: { tone: "ok", word: "Works by itself" },
  paired: { tone: "ok", word: "Paired" },
  in_sync: { tone: "ok", word: "In step" },
  solo: { tone: "warning", word: "Without a standby" },
  joining: { tone: "info", word: "Taking the standby in" },
  catching_up: { tone: "info", word: "Catching up" },
  recovering: { tone: "info", word: "Recovering" },
  blocked: { tone: "danger", word: "Blocked" },
  fenced: { tone: "warning", word: "Fenced off" },
  quarantined: { tone: "danger", word: "Must be rebuilt" },
  silent: { tone: "danger", word: "Silent" },
};

const BACKUP: Record<string, Told> = {
  fresh: { tone: "ok", word: "Backed up" },
  old: { tone: "warning", word: "Older than two days" },
  none: { tone: "warning", word: "No backup yet" },
  unheard: { tone: "neutral", word: "Not known" },
};

const ROLE_OF_NODE: Record<string, string> = {
  primary: "Primary",
  standby: "Standby",
  witness: "Witness",
};

const BANK: Record<string, Told> = {
  active: { tone: "ok", word: "Active" },
  suspended: { tone: "danger", word: "Suspended" },
};

const PROCESS: Record<string, Told> = {
  running: { tone: "ok", word: "Running" },
  stopped: { tone: "warning", word: "Stopped" },
  cut: { tone: "warning", word: "Cut off" },
  gone: { tone: "danger", word: "Gone" },
};

const AGREEMENT: Record<string, Told> = {
  yes: { tone: "ok", word: "Agrees" },
  no: { tone: "danger", word: "Differs" },
  unknown: { tone: "neutral", word: "Not known" },
};

const PAYMENT: Record<string, Told> = {
  pending: { tone: "info", word: "Under way" },
  done: { tone: "ok", word: "Done" },
  refused: { tone: "danger", word: "Refused" },
  given_up: { tone: "neutral", word: "Given up" },
};

const STEP: Record<string, string> = {
  held: "Held",
  intended: "Intended",
  prepared: "Prepared",
  decided: "Decided",
  posted: "Posted",
  voided: "Freed",
  aborted: "Aborted",
  refused: "Refused",
};

const KIND: Record<string, string> = {
  transfer: "Transfer",
  deposit: "Cash paid in",
  withdrawal: "Cash paid out",
  payment_out: "Payment to another bank",
  payment_in: "Payment from another bank",
  fee: "Fee",
  reversal: "Reversal",
  clearing: "Clearing",
  hold: "Reserved",
  hold_posted: "Reserve taken",
  hold_voided: "Reserve freed",
  hold_expired: "Reserve expired",
};

export const roleWords: Record<string, string> = {
  customer: "Customer",
  teller: "Teller",
  administrator: "Administrator",
  auditor: "Auditor",
};

/** Make a name such as `key_changed` readable; for what has no word of its own. */
export function plain(name: string): string {
  const words = name.replaceAll("_", " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function told(table: Record<string, Told>, name: string, otherwise: Tone = "neutral"): Told {
  return table[name] ?? { tone: otherwise, word: plain(name) };
}

export const accountState = (name: string): Told => told(ACCOUNT, name);
export const personState = (name: string): Told => told(PERSON, name);
/** What a pair says of a node and has no word here is worth a look. */
export const nodeState = (name: string): Told =>
  told(NODE, name.slice(name.lastIndexOf(".") + 1).replaceAll(" ", "_"), "warning");
export const backupStateWords = (name: string): Told => told(BACKUP, name);
export const bankState = (name: string): Told => told(BANK, name);
export const processState = (name: string): Told => told(PROCESS, name);
export const agreement = (name: string): Told => told(AGREEMENT, name);
export const paymentState = (name: string): Told => told(PAYMENT, name);
export const stepWord = (name: string): string => STEP[name] ?? plain(name);
export const kindWord = (name: string): string => KIND[name] ?? plain(name);
export const nodeRole = (name: string): string => ROLE_OF_NODE[name] ?? (name ? plain(name) : "Role not known");

/** Say a span of time in its two largest units, as `3 min 12 s`. */
export function span(seconds: number): string {
  let left = Math.max(0, Math.floor(seconds));
  const parts: string[] = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]] as const) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0 || (unit === "s" && parts.length === 0)) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}
