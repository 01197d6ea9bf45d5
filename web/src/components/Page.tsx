/**
 * What each page begins with: the heading, which is also the document's title and takes the focus after a change of page.
 *
 *     <Page title="Send money" lead="To anybody at this bank or another." actions={<Button>…</Button>}>…</Page>
 */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { place } from "../router";
import { site } from "../session";

interface PageProps {
  title: string;
  lead?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
  /** Small words above the heading with a link back, such as { href: "/activity", label: "Activity" }. */
  back?: { href: string; label: string };
  /** As wide as a text, for forms and reading. */
  narrow?: boolean;
}

let focused = 0;

export function Page({ title, lead, actions, children, back, narrow = false }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const bank = site.get()?.bank;
    document.title = bank ? `${title} · Bank ${bank}` : title;
  }, [title]);
  useEffect(() => {
    // the first page is the browser's; after that the focus would stay on a link that is gone
    const { moves } = place.get();
    if (moves === focused) return;
    focused = moves;
    scrollTo(0, 0);
    heading.current?.focus({ preventScroll: true });
  }, []);
  return (
    <div class={narrow ? "page page-narrow" : "page"}>
      <header class="page-head">
        <div class="page-title">
          {back && (
            <a class="page-back" href={back.href}>
              {back.label}
            </a>
          )}
          <h1 tabIndex={-1} ref={heading}>
            {title}
          </h1>
          {lead && <p class="lead">{lead}</p>}
        </div>
        {actions && <div class="page-actions">{actions}</div>}
      </header>
      {children}
    </div>
  );
}
