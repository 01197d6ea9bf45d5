/** The pages of customers and their addresses. */

import type { Route } from "../router";
import { Account, Activity } from "./activity";
import { Home } from "./home";
import { Notifications, UnreadBadge } from "./notifications";
import { OpenAccount } from "./open";
import { PaymentPage } from "./payment";
import { Send } from "./send";
import { Settings } from "./settings";
import { Statements } from "./statements";
import "./customer.css";

export const routes: readonly Route[] = [
  { path: "/", page: Home, where: "bank", menu: { label: "Home", icon: "home" } },
  { path: "/send", page: Send, where: "bank", menu: { label: "Send money", icon: "send" } },
  { path: "/activity", page: Activity, where: "bank", menu: { label: "Activity", icon: "activity" } },
  { path: "/statements", page: Statements, where: "bank", menu: { label: "Statements", icon: "file" } },
  {
    path: "/notifications",
    page: Notifications,
    where: "bank",
    menu: { label: "Notifications", icon: "bell", badge: UnreadBadge },
  },
  { path: "/settings", page: Settings, menu: { label: "Settings", icon: "gear" } },
  { path: "/accounts/new", page: OpenAccount, where: "bank", below: "/" },
  { path: "/accounts/:number", page: Account, where: "bank", below: "/activity" },
  { path: "/payments/:id", page: PaymentPage, below: "/activity" },
];
