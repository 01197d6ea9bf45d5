/** What happened lately, and what of it is new; also the number in the menu. */

import { useEffect, useState } from "preact/hooks";
import { Empty, Failure, LinkButton, Skeleton } from "../components";
import { useStore } from "../store";
import { Entries } from "./entries";
import { isUnread, loadNews, markSeen, type News, news, unread, useNews } from "./news";
import { CustomerPage, useMine } from "./page";

export function Notifications() {
  const mine = useMine();
  const now = useStore(news);
  useNews();
  // What was new when the page was opened stays marked while it is read.
  const [before, setBefore] = useState<News["seen"] | null>(null);
  useEffect(() => {
    if (!now.items) return;
    if (!before) setBefore(now.seen);
    if (unread(now) > 0 && !document.hidden) markSeen();
  }, [now]);
  return (
    <CustomerPage title="Notifications" lead="Everything that happens on your accounts, as it happens." narrow>
      <section class="card block" aria-label="Notifications">
        <h2 class="hidden">What happened lately</h2>
        {now.items === undefined && !now.error && <Skeleton lines={6} />}
        {now.items === undefined && now.error && <Failure error={now.error} retry={loadNews} assurance="Your money is not affected." />}
        {now.items?.length === 0 && (
          <Empty words="Nothing has happened on your accounts yet." action={<LinkButton href="/">Go to your accounts</LinkButton>} />
        )}
        {now.items && now.items.length > 0 && (
          <Entries
            rows={now.items.map((item) => ({ ...item, isUnread: isUnread(item, before ?? now.seen) }))}
            byDay
            withAccount
            label="Notifications"
            {...mine}
          />
        )}
      </section>
    </CustomerPage>
  );
}

/** How many are unread; nothing if none is. */
export function UnreadBadge() {
  const now = useStore(news);
  useNews();
  const count = unread(now);
  if (count === 0) return null;
  return (
    <span class="badge">
      {count}
      <span class="hidden"> new</span>
    </span>
  );
}
