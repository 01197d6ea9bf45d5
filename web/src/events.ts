/** Takes a stream of events apart: text/event-stream, as the HTML standard says ("event stream interpretation"). */

export interface Message {
  event: string;
  data: string;
}

export class EventParser {
  /** The last id told. */
  id = "";
  #rest = "";
  #event = "";
  #data: string[] = [];

  /** Give the events that are whole now. */
  receive(text: string): Message[] {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line: string): Message[] {
    if (line === "") {
      const message = { event: this.#event || "message", data: this.#data.join("\n") };
      const isWhole = this.#data.length > 0;
      this.#event = "";
      this.#data = [];
      return isWhole ? [message] : [];
    }
    const [field = "", ...more] = line.split(":");
    const value = more.join(":").replace(/^ /, "");
    if (field === "event") this.#event = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id") this.id = value;
    return [];
  }
}
