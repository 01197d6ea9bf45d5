/** Make a customer by hand, with a first password that is made here and shown once. */

import { useState } from "preact/hooks";
import { TextField } from "../../components";
import { ActDialog } from "../acts";
import { Checks, Secret } from "../controls";
import { newPassword } from "../passwords";
import type { Role } from "../types";
import { roleWords } from "../words";
import { ceremonies } from "../../worker/client";

const USERNAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const ROLES: Role[] = ["customer", "teller", "administrator", "auditor"];

interface Props {
  onClose: () => void;
  onDone: () => void;
}

export function CreateDialog({ onClose, onDone }: Props) {
  const [username, setUsername] = useState("");
  const [name, setName] = useState("");
  const [roles, setRoles] = useState<Role[]>(["customer"]);
  const [password] = useState(newPassword);
  const [progress, setProgress] = useState("");
  const wrong = username !== "" && !USERNAME.test(username);
  const isStaff = roles.some((role) => role !== "customer");
  return (
    <ActDialog
      title="Create a customer by hand"
      act="Create customer"
      ready={USERNAME.test(username) && roles.length > 0}
      progress={progress}
      onClose={onClose}
      onDone={onDone}
      run={(id) => ceremonies.createCustomer({ id, username, name: name.trim(), roles, password }, setProgress)}
      finished={
        <>
          <p>
            Give <strong>{name.trim() || username}</strong> this first password. They change it under Settings after they have signed
            in. It is not shown again, and nobody at the bank can read it.
          </p>
          <Secret name={`First password of ${username}`} value={password} />
        </>
      }
      waiting={
        <>
          <p>Keep this first password for {name.trim() || username}: it is not shown again, and works once the request is approved.</p>
          <Secret name={`First password of ${username}`} value={password} />
        </>
      }
    >
      <TextField
        label="Username"
        value={username}
        onValue={(value) => setUsername(value.toLowerCase())}
        hint="Small letters, digits, point, dash, underscore. It cannot be changed."
        error={wrong ? "A username begins with a small letter or digit and has no spaces." : ""}
        maxLength={64}
      />
      <TextField label="Name" value={name} onValue={setName} hint="As people call them. It may be left empty." maxLength={140} />
      <Checks
        label="Roles"
        options={ROLES.map((role): [Role, string] => [role, roleWords[role] ?? role])}
        chosen={roles}
        onChange={setRoles}
        hint={isStaff ? "A second administrator must approve staff." : ""}
      />
      <p class="quiet">A first password is made for you. It is turned into a key here, in your browser; the bank never learns it.</p>
    </ActDialog>
  );
}
