// One conversation with the bank: text messages over a WebSocket, each answer awaited with a deadline.

/** The conversation ended, or went silent, before the awaited message came. */
export class WireLost extends Error {}

/** What a ceremony needs of a connection. */
export interface Wire {
  /** Throws WireLost if it is closed. */
  send(text: string): void;
  /** Gives the next message; rejects with WireLost. */
  receive(): Promise<string>;
  close(): void;
}

const OPEN_MS_MAX = 10_000;
const ANSWER_MS_MAX = 20_000;
const MESSAGES_MAX = 16;
const MESSAGE_LENGTH_MAX = 16_384;

/** Open a WebSocket as a wire; rejects with WireLost. */
export async function openSocket(url: string): Promise<Wire> {
  const wire = new SocketWire(new WebSocket(url));
  await wire.opened();
  return wire;
}

class SocketWire implements Wire {
  readonly #socket: WebSocket;
  readonly #arrived: string[] = [];
  #wake: () => void = () => undefined;
  #isLost = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onopen = () => this.#wake();
    socket.onmessage = (event: MessageEvent<unknown>) => this.#take(event.data);
    socket.onerror = socket.onclose = () => this.#lose();
  }

  opened(): Promise<void> {
    return this.#when(OPEN_MS_MAX, () => (this.#socket.readyState === WebSocket.OPEN ? [] : null)).then(() => undefined);
  }

  send(text: string): void {
    if (this.#isLost || this.#socket.readyState !== WebSocket.OPEN) throw new WireLost("the connection is closed");
    this.#socket.send(text);
  }

  async receive(): Promise<string> {
    const [text = ""] = await this.#when(ANSWER_MS_MAX, () => (this.#arrived.length ? this.#arrived.splice(0, 1) : null));
    return text;
  }

  close(): void {
    this.#isLost = true;
    this.#socket.close();
  }

  #take(data: unknown): void {
    if (typeof data !== "string" || data.length > MESSAGE_LENGTH_MAX || this.#arrived.length >= MESSAGES_MAX) {
      this.close();
    } else {
      this.#arrived.push(data);
    }
    this.#wake();
  }

  #lose(): void {
    this.#isLost = true;
    this.#wake();
  }

  // What has arrived before the end is still given: the last message of all is often the reason of the end.
  #when(limit_ms: number, found: () => string[] | null): Promise<string[]> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.close();
        reject(new WireLost("no answer in time"));
      }, limit_ms);
      this.#wake = () => {
        const what = found();
        if (!what && !this.#isLost) return;
        clearTimeout(timer);
        this.#wake = () => undefined;
        if (what) resolve(what);
        else reject(new WireLost("the connection was closed"));
      };
      this.#wake();
    });
  }
}
