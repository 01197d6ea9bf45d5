/** All that pages are built of. */

export { Amount } from "./Amount";
export { Block, Empty, Failure, Skeleton } from "./Block";
export { Button, LinkButton } from "./Button";
export { Dialog } from "./Dialog";
export { Facts } from "./Facts";
export { CheckField, ChoiceField, Field, focusFirstError, Form, SelectField, TextField } from "./Field";
export { Icon, type IconName } from "./Icon";
export { Notice, ProblemNotice, sentence } from "./Notice";
export { Page } from "./Page";
export { Status, type Tone } from "./Status";
export { type Column, Table } from "./Table";
export { announce, toast } from "./Toast";
export { When } from "./When";
