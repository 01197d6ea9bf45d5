/** The pages of staff: one chunk, loaded when the first of them is opened. */

import type { PageProps, Route } from "../router";
import "./admin.css";
import { Account } from "./pages/account";
import { Accounts } from "./pages/accounts";
import { Approvals } from "./pages/approvals";
import { Backups } from "./pages/backups";
import { Banks } from "./pages/banks";
import { Books } from "./pages/books";
import { CashDesk } from "./pages/cashdesk";
import { Customer } from "./pages/customer";
import { Customers } from "./pages/customers";
import { Doubts } from "./pages/doubts";
import { Events } from "./pages/events";
import { Laboratory } from "./pages/laboratory";
import { Overview } from "./pages/overview";
import { Trail } from "./pages/trail";
import { WindowPage, Windows } from "./pages/windows";

const STAFF = ["teller", "administrator", "auditor"] as const;
const BOOKKEEPERS = ["administrator", "auditor"] as const;

const OneCustomer = ({ params }: PageProps) => <Customer username={params.username ?? ""} />;
const OneAccount = ({ params }: PageProps) => <Account number={Number(params.number)} />;
const OneWindow = ({ params }: PageProps) => <WindowPage number={Number(params.number)} />;

export const routes: Route[] = [
  { path: "/admin", page: Overview, roles: STAFF, menu: { label: "Overview", icon: "pulse" } },
  { path: "/admin/customers", page: Customers, roles: STAFF, menu: { label: "Customers", icon: "users" } },
  { path: "/admin/customers/:username", page: OneCustomer, roles: STAFF, below: "/admin/customers" },
  { path: "/admin/accounts", page: Accounts, roles: STAFF, menu: { label: "Accounts", icon: "accounts" } },
  { path: "/admin/accounts/:number", page: OneAccount, roles: STAFF, below: "/admin/accounts" },
  { path: "/admin/cash", page: CashDesk, roles: ["teller"], where: "bank", menu: { label: "Cash desk", icon: "arrow_in" } },
  { path: "/admin/approvals", page: Approvals, roles: ["administrator"], menu: { label: "Approvals", icon: "check" } },
  { path: "/admin/doubts", page: Doubts, roles: STAFF, menu: { label: "Payments in doubt", icon: "question" } },
  { path: "/admin/banks", page: Banks, roles: STAFF, where: "gateway", menu: { label: "Banks", icon: "bank" } },
  { path: "/admin/windows", page: Windows, roles: STAFF, where: "gateway", menu: { label: "Settlement", icon: "clock" } },
  { path: "/admin/windows/:number", page: OneWindow, roles: STAFF, where: "gateway", below: "/admin/windows" },
  { path: "/admin/books", page: Books, roles: BOOKKEEPERS, menu: { label: "Books", icon: "scale" } },
  { path: "/admin/trail", page: Trail, roles: BOOKKEEPERS, menu: { label: "Audit trail", icon: "trail" } },
  { path: "/admin/backups", page: Backups, roles: STAFF, menu: { label: "Backups", icon: "archive" } },
  { path: "/admin/events", page: Events, roles: STAFF, menu: { label: "Events", icon: "bell" } },
  { path: "/admin/lab", page: Laboratory, roles: STAFF, where: "demo", menu: { label: "Laboratory", icon: "flask" } },
];
