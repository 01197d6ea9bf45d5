/** Files that a page makes itself. */

/** Let the browser save a text as a file. */
export function saveFile(name: string, mediaType: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: mediaType }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has taken it by the next turn; some take it later.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
