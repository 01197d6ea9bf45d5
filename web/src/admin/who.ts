/** Who looks at these pages. */

import type { Session } from "../api";
import { present } from "../session";
import { useStore } from "../store";
import type { Role } from "./types";

const NOBODY: Session = {
  username: "",
  name: "",
  roles: [],
  anti_forgery: "",
  expires: "1970-01-01T00:00:00Z",
  bank: "",
  kind: "bank",
  demo: false,
};

/** Tell who is signed in. */
export const useWho = (): Session => useStore(present).session ?? NOBODY;

export const hasRole = (who: Session, role: Role): boolean => who.roles.includes(role);

/** Whether somebody works for the bank. */
export const isStaff = (who: Session): boolean => who.roles.some((role) => role !== "customer");
