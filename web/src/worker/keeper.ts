// Does what the page asks of the worker, and keeps the key that signs orders: one person's, in memory only.

import { hexOf, wipe } from "./bytes";
import * as ceremony from "./ceremony";
import type { Entered, World } from "./ceremony";
import { localError } from "./errors";
import type { Result, SignableOrder, Task } from "./messages";
import { signOrder } from "./orders";
import { checkPassword } from "./passwords";

export class Keeper {
  #username = "";
  #signingSeed: Uint8Array = new Uint8Array();

  /** Do a task, with the world as it is for this task. Passwords in it are wiped, whatever happens. */
  async perform(task: Task, world: World): Promise<Result> {
    try {
      return await this.#perform(task, world);
    } finally {
      wipe(...Object.values(task).filter((part): part is Uint8Array => part instanceof Uint8Array));
    }
  }

  async #perform(task: Task, world: World): Promise<Result> {
    switch (task.kind) {
      case "sign_in":
        return this.#enter(task.username, await ceremony.signIn(world, task.username, task.password));
      case "register":
        checkPassword(textOf(task.password));
        return this.#enter(
          task.username,
          await ceremony.register(world, task.code, task.username, task.name, task.password),
        );
      case "change_password":
        checkPassword(textOf(task.password));
        return this.#enter(
          task.username,
          await ceremony.changePassword(world, task.username, task.old, task.password),
        );
      case "create_customer": {
        checkPassword(textOf(task.password));
        const { id, username, name, roles } = task;
        return { approval: await ceremony.createCustomer(world, { id, username, name, roles }, task.password) };
      }
      case "check_password":
        checkPassword(textOf(task.password));
        return null;
      case "holds_key":
        return this.#holdsKey(task.username);
      case "sign_order":
        return this.#sign(task.username, task.order);
      case "forget":
        return this.#forget();
    }
  }

  #forget(): null {
    wipe(this.#signingSeed);
    this.#username = "";
    return null;
  }

  #enter(username: string, { token, signingSeed }: Entered): { token: string } {
    this.#forget();
    [this.#username, this.#signingSeed] = [username, signingSeed];
    return { token };
  }

  #holdsKey(username: string): boolean {
    return username !== "" && username === this.#username;
  }

  #sign(username: string, order: SignableOrder): string {
    if (!this.#holdsKey(username)) throw localError("no_key", "this tab does not hold the key of this person");
    return hexOf(signOrder(order, this.#signingSeed));
  }
}

function textOf(password: Uint8Array): string {
  return new TextDecoder().decode(password);
}
