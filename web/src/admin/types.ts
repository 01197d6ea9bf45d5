/** Short names for what the API answers; the types come from its description. */

import type { components } from "../schema";

type Shapes = components["schemas"];

export type Account = Shapes["Account"];
export type AccountHistory = Shapes["AccountHistory"];
export type AccountList = Shapes["AccountList"];
export type Approval = Shapes["Approval"];
export type ApprovalList = Shapes["ApprovalList"];
export type BankList = Shapes["BankList"];
export type BankPosition = Shapes["BankPosition"];
export type BankRow = Shapes["BankRow"];
export type Books = Shapes["Books"];
export type BooksRow = Shapes["BooksRow"];
export type Cluster = Shapes["Cluster"];
export type Done = Shapes["Done"];
export type DoubtList = Shapes["DoubtList"];
export type Entry = Shapes["Entry"];
export type Event = Shapes["Event"];
export type EventList = Shapes["EventList"];
export type InvitationCode = Shapes["InvitationCode"];
export type LabNode = Shapes["LabNode"];
export type LabView = Shapes["LabView"];
export type Limits = Shapes["Limits"];
export type Node = Shapes["Node"];
export type OpenedAccount = Shapes["OpenedAccount"];
export type Payment = Shapes["Payment"];
export type PaymentStep = Shapes["PaymentStep"];
export type PositionList = Shapes["PositionList"];
export type Role = "customer" | "teller" | "administrator" | "auditor";
export type Sample = Shapes["Sample"];
export type Samples = Shapes["Samples"];
export type TrailPage = Shapes["TrailPage"];
export type TrailRow = Shapes["TrailRow"];
export type User = Shapes["User"];
export type UserList = Shapes["UserList"];
export type Window = Shapes["Window"];
export type WindowList = Shapes["WindowList"];
export type WindowRow = Shapes["WindowRow"];
