/** Sign in: the password becomes a proof in the worker; only the proof leaves the page. */

import { useRef, useState } from "preact/hooks";
import { Button, focusFirstError, Form, Notice, Page, TextField } from "../components";
import { announce } from "../components/Toast";
import { exchange, type Present, present, site } from "../session";
import { useStore } from "../store";
import { ceremonies } from "../worker/client";
import { type Failure, failureOf } from "./failure";
import { FailureNotice } from "./FailureNotice";
import { PasswordField } from "./PasswordField";

const ENDED: Record<Present["ended"], string> = {
  "": "",
  expired: "You were signed out, as your session has ended. Sign in to go on where you were.",
  signed_out: "You are signed out.",
  elsewhere: "You were signed out in another tab.",
};

export function SignIn() {
  const { ended } = useStore(present);
  const bank = useStore(site);
  const name = !bank ? "" : bank.kind === "gateway" ? " to the gateway" : ` to bank ${bank.bank}`;
  return (
    <div class="entrance">
      <Page title={`Sign in${name}`}>
        {ended && <Notice tone={ended === "expired" ? "info" : "neutral"} title={ENDED[ended]} />}
        <div class="card">
          <SignInForm />
        </div>
        {bank?.kind !== "gateway" && (
          <p class="entrance-foot">
            Were you given an invitation code? <a href="/register">Become a customer</a>
          </p>
        )}
      </Page>
    </div>
  );
}

function SignInForm() {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [wanting, setWanting] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const [progress, setProgress] = useState("");
  const place = useRef<HTMLDivElement>(null);

  const send = async (): Promise<void> => {
    const name = username.trim().toLowerCase();
    setFailure(null);
    setWanting(true);
    if (!name || !password) return focusFirstError(place.current ?? document);
    setProgress("Asking the bank…");
    try {
      const { token } = await ceremonies.signIn(name, password, (words) => setProgress(`${words}…`));
      setProgress("Opening your session…");
      await exchange(token);
      announce("You are signed in.");
    } catch (error) {
      setProgress("");
      setFailure(failureOf(error));
    }
  };

  return (
    <div ref={place}>
      <Form onSubmit={() => void send()} busy={progress !== ""} label="Sign in">
        {failure && <FailureNotice failure={failure} />}
        <TextField
          label="Username"
          name="username"
          autoComplete="username"
          exact
          maxLength={64}
          value={username}
          onValue={setUsername}
          onLeave={() => ceremonies.warmUp()}
          error={wanting && !username.trim() ? "Type your username." : ""}
        />
        <PasswordField
          label="Password"
          autoComplete="current-password"
          value={password}
          onValue={setPassword}
          onFocus={() => ceremonies.warmUp()}
          error={wanting && !password ? "Type your password." : ""}
        />
        <Button kind="primary" type="submit" busy={progress !== ""} busyWords="Signing in…">
          Sign in
        </Button>
        <p class="entrance-foot" role="status">
          {progress || "Your password stays in this browser. The bank is only shown a proof that you know it."}
        </p>
      </Form>
    </div>
  );
}
