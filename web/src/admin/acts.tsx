/**
 * A dialog for one act: what it does, what must be typed, and what became of it.
 *
 * The act's id is made when the dialog opens and stays while the outcome is unknown, so asking again cannot do it twice;
 * after a definite refusal the next try is a new act. While it is under way the dialog stays open.
 */

import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { Button, Dialog, Form, Notice, TextField } from "../components";
import { newId } from "../ids";
import { failureOf } from "./failures";
import { ActFailure, ShortId } from "./parts";

/** What came of an act; with an `approval`, nothing yet: a second administrator must agree. */
export interface Outcome {
  approval?: string;
}

interface Props {
  title: string;
  /** The words on the button that does it. */
  act: string;
  /** Whether what it does is hard to undo. */
  danger?: boolean;
  /** Whether it always takes a second administrator. */
  second?: boolean;
  /** A name that must be typed before it is done. */
  confirm?: string;
  confirmWhat?: string;
  ready?: boolean;
  /** What is being done now, for acts that take long. */
  progress?: string;
  /** What is said when it is done, or shown instead. */
  done?: string;
  finished?: ComponentChildren;
  /** What is shown besides while it waits for a second administrator. */
  waiting?: ComponentChildren;
  run: (id: string) => Promise<Outcome>;
  onClose: () => void;
  onDone?: () => void;
  children?: ComponentChildren;
}

type Stage = { name: "asking" } | { name: "sending" } | { name: "unknown" } | { name: "done" } | { name: "waiting"; approval: string };

/** Say that an act waits for somebody else. */
export function Approved({ id = "" }: { id?: string }) {
  return (
    <>
      <p>
        <strong>Nothing is changed yet.</strong> Another administrator must approve this.
      </p>
      <p class="quiet">
        Request {id && <ShortId id={id} />} waits under <a href="/admin/approvals">Approvals</a>.
      </p>
    </>
  );
}

export function ActDialog(props: Props) {
  const id = useRef(newId());
  const [stage, setStage] = useState<Stage>({ name: "asking" });
  const [failure, setFailure] = useState<unknown>(null);
  const [typed, setTyped] = useState("");
  const isOver = stage.name === "done" || stage.name === "waiting";
  const isTyped = !props.confirm || typed.trim() === props.confirm;
  const isLocked = stage.name === "sending" || stage.name === "unknown";

  async function run() {
    setStage({ name: "sending" });
    setFailure(null);
    try {
      const { approval } = await props.run(id.current);
      setStage(approval ? { name: "waiting", approval } : { name: "done" });
    } catch (error) {
      setFailure(error);
      const isDefinite = failureOf(error).isDefinite;
      if (isDefinite) id.current = newId();
      setStage(isDefinite ? { name: "asking" } : { name: "unknown" });
      return;
    }
    props.onDone?.();
  }

  function submit() {
    if (isTyped && props.ready !== false) void run();
  }

  if (isOver) return <Over {...props} stage={stage} />;
  const isSending = stage.name === "sending";
  return (
    <Dialog title={props.title} onClose={props.onClose} busy={isSending} cancel="">
      <Form busy={isSending} onSubmit={submit}>
        <fieldset class="act-fields" disabled={isLocked}>
          {props.children}
          {props.second && <p class="second">This takes two: another administrator must approve it.</p>}
          {props.confirm && (
            <TextField
              label={`To go on, type ${props.confirmWhat ? `${props.confirmWhat}: ` : ""}${props.confirm}`}
              value={typed}
              onValue={setTyped}
              maxLength={100}
              exact
            />
          )}
        </fieldset>
        {stage.name === "unknown" && (
          <Notice tone="warning" title="It is not known whether this was done." alert>
            Asking again is safe: it is done once.
          </Notice>
        )}
        {failure !== null && <ActFailure failure={failure} />}
        <div class="act-buttons">
          <Button
            type="submit"
            kind={props.danger ? "danger" : "primary"}
            busy={isSending}
            busyWords={props.progress || "One moment…"}
            disabled={!isTyped || props.ready === false}
          >
            {stage.name === "unknown" ? "Ask again" : props.act}
          </Button>
          <Button kind="quiet" onClick={props.onClose} disabled={isSending}>
            Cancel
          </Button>
        </div>
      </Form>
    </Dialog>
  );
}

function Over({ stage, ...props }: Props & { stage: Stage }) {
  return (
    <Dialog
      title={stage.name === "waiting" ? "Waits for a second administrator" : props.title}
      onClose={props.onClose}
      cancel="Close"
    >
      <div class="act-over" role="status">
        {stage.name === "waiting" && (
          <>
            <Approved id={stage.approval} />
            {props.waiting}
          </>
        )}
        {stage.name === "done" && (props.finished ?? <Notice tone="ok" title={props.done ?? "It is done."} />)}
      </div>
    </Dialog>
  );
}
