/** The frame around all pages: who may be where, the menu, the banner, and what is shown without a session. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Banner, SessionWarning } from "./Banner";
import { Empty, LinkButton, Notice, Page, Skeleton } from "./components";
import { Button } from "./components/Button";
import { Toasts } from "./components/Toast";
import { routes as customerRoutes } from "./customer/routes";
import { Register } from "./entrance/Register";
import { SignIn } from "./entrance/SignIn";
import { endLive, goLive } from "./live";
import { Header, Menu } from "./Menu";
import { find, place, type PageProps, type Route } from "./router";
import { begin, hasRole, present, site } from "./session";
import { useStore } from "./store";

const STAFF = ["teller", "administrator", "auditor"] as const;

/** Whether a page exists here and for who is signed in. */
function isOpen(route: Route): boolean {
  const session = present.get().session;
  if (!session || !hasRole(route.roles)) return false;
  return !route.where || (route.where === "demo" ? session.demo : session.kind === route.where);
}

type Lazy = { state: "none" | "loading" | "failed" } | { state: "here"; routes: readonly Route[] };

/** Load the pages of administrators when one of them is here. */
function useStaffRoutes(isStaff: boolean): { lazy: Lazy; retry: () => void } {
  const [lazy, setLazy] = useState<Lazy>({ state: "none" });
  const load = (): void => {
    setLazy({ state: "loading" });
    import("./admin/routes").then(
      (module) => setLazy({ state: "here", routes: module.routes }),
      () => setLazy({ state: "failed" }),
    );
  };
  useEffect(() => {
    if (isStaff && lazy.state === "none") load();
  }, [isStaff]);
  return { lazy: isStaff ? lazy : { state: "none" }, retry: load };
}

export function Shell() {
  const { state } = useStore(present);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the page
      </a>
      {state === "in" ? <Inside /> : <Outside />}
      <Toasts />
    </>
  );
}

function Outside() {
  const { state } = useStore(present);
  const { path } = useStore(place);
  useStore(site);
  return (
    <div class="shell shell-out">
      <Header />
      <Banner />
      <main id="main" class="main" tabIndex={-1}>
        {state === "asking" && <Skeleton lines={2} />}
        {state === "unreachable" && <Unreachable />}
        {state === "out" && (path === "/register" ? <Register /> : <SignIn />)}
      </main>
    </div>
  );
}

function Unreachable() {
  useEffect(() => {
    const timer = setInterval(() => void begin(), 3000);
    return () => clearInterval(timer);
  }, []);
  return (
    <Page title="The bank does not answer" narrow>
      <Notice tone="warning" title="This page tries again by itself.">
        Your money is not affected.
      </Notice>
      <p>
        <Button icon="refresh" onClick={() => void begin()}>
          Try now
        </Button>
      </p>
    </Page>
  );
}

function Inside() {
  const { session } = useStore(present);
  const isStaff = session?.roles.some((role) => (STAFF as readonly string[]).includes(role)) ?? false;
  const { lazy, retry } = useStaffRoutes(isStaff);
  const { path, query } = useStore(place);
  useEffect(() => {
    goLive();
    return endLive;
  }, []);
  const staff = lazy.state === "here" ? lazy.routes : [];
  const isCustomer = session?.roles.includes("customer") ?? false;
  // who is no customer has no accounts: what is left of these pages are one's settings, and "/" leads to the bank's
  const own = customerRoutes.filter((route) => isOpen(route) && (isCustomer || route.where !== "bank"));
  const theirs = staff.filter(isOpen);
  const found = find([...own, ...theirs], path === "/" && !isCustomer ? "/admin" : path);
  return (
    <div class={isStaff ? "shell shell-staff" : "shell shell-customer"}>
      <Header />
      <Menu customer={own} staff={theirs} present={found?.route} />
      <Banner />
      <SessionWarning />
      <main id="main" class="main" tabIndex={-1}>
        {found ? (
          <Shown key={path} page={found.route.page} params={found.params} query={query} />
        ) : lazy.state === "loading" || (isStaff && lazy.state === "none") ? (
          <Skeleton />
        ) : lazy.state === "failed" ? (
          <LoadFailed retry={retry} />
        ) : (
          <NotFound />
        )}
      </main>
    </div>
  );
}

function Shown({ page: Which, params, query }: PageProps & { page: ComponentType<PageProps> }) {
  return <Which params={params} query={query} />;
}

function LoadFailed({ retry }: { retry: () => void }) {
  return (
    <Page title="This page could not be loaded" narrow>
      <Notice tone="danger" title="A part of the pages is missing." alert>
        <p>Your device may be offline, or the pages were renewed meanwhile.</p>
      </Notice>
      <p class="row">
        <Button icon="refresh" onClick={retry}>
          Try again
        </Button>
        <Button kind="quiet" onClick={() => location.reload()}>
          Load everything anew
        </Button>
      </p>
    </Page>
  );
}

function NotFound() {
  return (
    <Page title="There is no such page" narrow>
      <Empty
        words="The address may be mistyped, or the page is not for you to see."
        action={<LinkButton href="/">Go to the first page</LinkButton>}
      />
    </Page>
  );
}
