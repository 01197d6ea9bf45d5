/**
 * Which page is shown: by real paths and the browser's history.
 *
 * Links are ordinary `<a href="/send">`; `go` is for what follows a deed. A page's parameters come as props.
 */

import type { ComponentType } from "preact";
import type { Session } from "./api";
import type { IconName } from "./components/Icon";
import { createStore } from "./store";

export interface PageProps {
  /** What stands for `:name` in the path. */
  params: Record<string, string>;
  /** What stands behind the question mark. */
  query: URLSearchParams;
}

export interface Route {
  /** Such as /payments/:id. */
  path: string;
  page: ComponentType<PageProps>;
  /** Who may see it; nothing: everybody who is signed in. */
  roles?: readonly Session["roles"][number][];
  /** Only at a bank, only at a gateway, or only where the laboratory is open. */
  where?: "bank" | "gateway" | "demo";
  /** A place in the menu; `badge` stands behind the label, such as how much is unread. */
  menu?: { label: string; icon: IconName; badge?: ComponentType };
  /** Of a page without its own place: the path whose place is marked as the present one. */
  below?: string;
}

export interface Place {
  path: string;
  query: URLSearchParams;
  /** How often somebody went elsewhere; 0 as loaded. */
  moves: number;
}

const here = (moves: number): Place => ({
  path: location.pathname.replace(/(.)\/+$/, "$1"),
  query: new URLSearchParams(location.search),
  moves,
});

export const place = createStore<Place>(here(0));

/** Show another page; with `replace` Back does not come here again. */
export function go(path: string, options: { replace?: boolean } = {}): void {
  const isSame = path === location.pathname + location.search;
  if (options.replace || isSame) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  place.set(here(place.get().moves + 1));
}

/** Find what stands for `:name`s in a path; null if it does not fit. */
export function match(template: string, path: string): Record<string, string> | null {
  const wanted = template.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  const params: Record<string, string> = {};
  for (const [i, part] of wanted.entries()) {
    const value = given[i] ?? "";
    if (part.startsWith(":") && value) {
      try {
        params[part.slice(1)] = decodeURIComponent(value);
      } catch {
        return null;
      }
    } else if (part !== value) return null;
  }
  return params;
}

/** Find the route of a path. */
export function find(routes: readonly Route[], path: string): { route: Route; params: Record<string, string> } | null {
  for (const route of routes) {
    const params = match(route.path, path);
    if (params) return { route, params };
  }
  return null;
}

function onClick(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link?.href || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  // the server answers /api and files by itself; a link within the page is the browser's
  if (link.pathname.startsWith("/api/") || link.getAttribute("href")?.startsWith("#")) return;
  event.preventDefault();
  go(link.pathname + link.search);
}

document.addEventListener("click", onClick);
addEventListener("popstate", () => place.set(here(place.get().moves + 1)));
