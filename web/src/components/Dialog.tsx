/**
 * A question on top of the page. Escape and the cross close it; the focus stays in it and goes back afterwards.
 *
 *     {isOpen && (
 *       <Dialog title="Freeze this account?" onClose={close} actions={<Button kind="danger" onClick={freeze}>Freeze account</Button>}>
 *         <p>No payment goes in or out until it is opened again.</p>
 *       </Dialog>
 *     )}
 */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { Button } from "./Button";
import { Icon } from "./Icon";

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  /** The deeds; "Cancel" is added, or what `cancel` says, or nothing if that is empty. */
  actions?: ComponentChildren;
  cancel?: string;
  /** Something is under way: not to be closed now. */
  busy?: boolean;
}

export function Dialog({ title, onClose, children, actions, cancel = "Cancel", busy = false }: DialogProps) {
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  const onCancel = (event: Event) => {
    event.preventDefault();
    if (!busy) onClose();
  };
  return (
    <dialog class="dialog" ref={dialog} aria-labelledby={id} onCancel={onCancel}>
      <header class="dialog-head">
        <h2 id={id}>{title}</h2>
        <button type="button" class="icon-button" aria-label="Close" disabled={busy} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <div class="dialog-body">{children}</div>
      {(actions || cancel) && (
        <footer class="dialog-foot">
          {cancel && (
            <Button kind="quiet" onClick={onClose} disabled={busy}>
              {cancel}
            </Button>
          )}
          {actions}
        </footer>
      )}
    </dialog>
  );
}
