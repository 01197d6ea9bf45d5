/** A cash order that was sent and not answered; kept over a reload, so that it goes on under the same id. */

export interface Cash {
  way: "deposit" | "withdrawal";
  /** Which teller gave it; another one who signs in here is not asked about it. */
  by: string;
  id: string;
  account: number;
  amount: string;
  currency: string;
  reference: string;
}

const KEY = "fortress.cash";

const isCash = (found: unknown): found is Cash =>
  typeof found === "object" && found !== null && ["way", "by", "id", "account", "amount"].every((name) => name in found);

/** Give the order whose outcome this teller does not know in this tab; null if there is none. */
export function keptCash(by: string): Cash | null {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    return isCash(found) && found.by === by ? found : null;
  } catch {
    return null; // what cannot be read was not written here
  }
}

export const keepCash = (cash: Cash): void => sessionStorage.setItem(KEY, JSON.stringify(cash));

export const dropCash = (): void => sessionStorage.removeItem(KEY);
