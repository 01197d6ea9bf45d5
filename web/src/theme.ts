/** Light or dark: as the system says, unless somebody chose. */

import { createStore } from "./store";

export type Theme = "system" | "light" | "dark";

const KEY = "fortress.theme";

function kept(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

export const theme = createStore<Theme>(kept());

export function setTheme(next: Theme): void {
  theme.set(next);
  try {
    if (next === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // a browser that keeps nothing shows the theme until the page is left
  }
}

/** Put the theme on the document, now and whenever it changes, also in another tab. */
export function followTheme(): void {
  const show = (now: Theme): void => {
    if (now === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = now;
  };
  show(theme.get());
  theme.watch(show);
  addEventListener("storage", (event) => event.key === KEY && theme.set(kept()));
}
