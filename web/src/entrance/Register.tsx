/** Become a customer with an invitation code, from a link such as /register#CODE or typed. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Button, focusFirstError, Form, Page, TextField } from "../components";
import { announce } from "../components/Toast";
import { go } from "../router";
import { exchange, site } from "../session";
import { useStore } from "../store";
import { CeremonyError, ceremonies } from "../worker/client";
import { type Failure, failureOf } from "./failure";
import { FailureNotice } from "./FailureNotice";
import { PasswordField } from "./PasswordField";

const USERNAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** The code of the link; behind a # it stays out of all logs, and out of the address bar once it is read. */
function codeOfLink(): string {
  const code = decodeURIComponent(location.hash.slice(1)) || new URLSearchParams(location.search).get("code") || "";
  if (code) history.replaceState(null, "", "/register");
  return code;
}

export function Register() {
  const bank = useStore(site);
  return (
    <div class="entrance">
      <Page
        title={bank ? `Become a customer of bank ${bank.bank}` : "Become a customer"}
        lead="With the invitation code that the bank gave you."
      >
        <div class="card">
          <RegisterForm />
        </div>
        <p class="entrance-foot">
          Are you a customer already? <a href="/">Sign in</a>
        </p>
      </Page>
    </div>
  );
}

type Fields = Record<"code" | "name" | "username" | "password" | "again", string>;
const NOTHING: Fields = { code: "", name: "", username: "", password: "", again: "" };

function wrongOf(fields: Fields): Partial<Fields> {
  return {
    ...(fields.code.trim() ? {} : { code: "Type the invitation code." }),
    ...(fields.name.trim() ? {} : { name: "Type your name." }),
    ...(USERNAME.test(fields.username)
      ? {}
      : { username: "Small letters without accents, digits, points, dashes; begin with a letter or digit." }),
    ...(fields.password ? {} : { password: "Choose a password." }),
    ...(fields.again === fields.password ? {} : { again: "This is not the same as above." }),
  };
}

/** Ask the worker whether a password will do; other faults than a weak password show when it is used. */
async function weaknessOf(password: string): Promise<string> {
  try {
    await ceremonies.checkPassword(password);
    return "";
  } catch (error) {
    if (error instanceof CeremonyError && error.kind === "password_weak") return `${error.problem.detail}.`;
    return "";
  }
}

function RegisterForm() {
  const [fields, setFields] = useState<Fields>(() => ({ ...NOTHING, code: codeOfLink() }));
  const [weakness, setWeakness] = useState("");
  const [isAsked, setAsked] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [progress, setProgress] = useState("");
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => ceremonies.warmUp(), []);

  const set = (name: keyof Fields) => (value: string) => {
    setFields((was) => ({ ...was, [name]: value }));
    if (name === "password") setWeakness("");
  };
  const wrong = isAsked ? wrongOf(fields) : {};

  const send = async (): Promise<void> => {
    setAsked(true);
    setFailure(null);
    const weak = fields.password ? await weaknessOf(fields.password) : "";
    setWeakness(weak);
    if (weak || Object.keys(wrongOf(fields)).length > 0) return focusFirstError(place.current ?? document);
    setProgress("Beginning…");
    const { code, username, name, password } = fields;
    try {
      const tell = (words: string): void => setProgress(`${words}…`);
      const { token } = await ceremonies.register(code.trim(), username, name.trim(), password, tell);
      await exchange(token);
      announce("You are a customer now, and signed in.");
      go("/", { replace: true });
    } catch (error) {
      setProgress("");
      setFailure(failureOf(error));
    }
  };

  return (
    <div ref={place}>
      <Form onSubmit={() => void send()} busy={progress !== ""} label="Become a customer">
        {failure && <FailureNotice failure={failure} />}
        <TextField label="Invitation code" exact value={fields.code} onValue={set("code")} error={wrong.code ?? ""} />
        <TextField
          label="Your name"
          hint="As others see it before they pay you."
          name="name"
          autoComplete="name"
          maxLength={140}
          value={fields.name}
          onValue={set("name")}
          error={wrong.name ?? ""}
        />
        <TextField
          label="Username"
          hint="You sign in with it. Small letters and digits."
          name="username"
          autoComplete="username"
          exact
          maxLength={64}
          value={fields.username}
          onValue={(value) => set("username")(value.toLowerCase())}
          error={wrong.username ?? ""}
        />
        <PasswordField
          label="Password"
          hint="At least 10 characters; a phrase of several words is best. The bank never learns it, so nobody can tell it to you."
          autoComplete="new-password"
          value={fields.password}
          onValue={set("password")}
          onLeave={() => void (fields.password && weaknessOf(fields.password).then(setWeakness))}
          error={wrong.password ?? weakness}
        />
        <PasswordField
          label="Password again"
          autoComplete="new-password"
          value={fields.again}
          onValue={set("again")}
          error={wrong.again ?? ""}
        />
        <Button kind="primary" type="submit" busy={progress !== ""} busyWords="Making you a customer…">
          Become a customer
        </Button>
        <p class="entrance-foot" role="status">
          {progress}
        </p>
      </Form>
    </div>
  );
}
