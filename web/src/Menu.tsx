/** The bank's name, the menu by role, the theme and who is signed in. */

import { useEffect, useState } from "preact/hooks";
import { Button } from "./components/Button";
import { Icon, type IconName } from "./components/Icon";
import { toast } from "./components/Toast";
import { go, place, type Route } from "./router";
import { hasRole, present, signOut, site } from "./session";
import { createStore, useStore } from "./store";
import { setTheme, theme, type Theme } from "./theme";

const isMenuOpen = createStore(false);

export function Header() {
  const { session } = useStore(present);
  const here = useStore(site);
  const bank = session?.bank ?? here?.bank ?? "";
  const kind = session?.kind ?? here?.kind ?? "bank";
  return (
    <header class="header">
      <a class="brand" href="/">
        <Mark />
        <span>{bank ? (kind === "gateway" ? "Gateway" : `Bank ${bank}`) : "Fortress"}</span>
      </a>
      <div class="header-tools">
        <ThemeSwitch />
        {session && <Person name={session.name || session.username} />}
        {session && <MenuButton />}
      </div>
    </header>
  );
}

function Mark() {
  return (
    <svg class="mark" width="28" height="28" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="7" />
      <path d="M8 24V9h3v3h3.500V9h3v3H21V9h3v15h-5.500v-4.500a2.500 2.500 0 0 0-5 0V24z" />
    </svg>
  );
}

const NEXT: Record<Theme, { next: Theme; icon: IconName; words: string }> = {
  system: { next: "dark", icon: "contrast", words: "Theme: as the system. Change to dark" },
  dark: { next: "light", icon: "moon", words: "Theme: dark. Change to light" },
  light: { next: "system", icon: "sun", words: "Theme: light. Change to the system's" },
};

function ThemeSwitch() {
  const now = useStore(theme);
  const { next, icon, words } = NEXT[now];
  return (
    <button type="button" class="icon-button" aria-label={words} title={words} onClick={() => setTheme(next)}>
      <Icon name={icon} />
    </button>
  );
}

function Person({ name }: { name: string }) {
  const [isBusy, setBusy] = useState(false);
  const leave = (): void => {
    setBusy(true);
    signOut().then(
      () => go("/", { replace: true }),
      () => {
        setBusy(false);
        toast("The bank does not answer, so you are still signed in. Try again.", "danger");
      },
    );
  };
  return (
    <div class="person">
      <span class="person-name">{name}</span>
      <Button small kind="quiet" icon="sign_out" busy={isBusy} busyWords="Signing out…" onClick={leave}>
        Sign out
      </Button>
    </div>
  );
}

function MenuButton() {
  const isOpen = useStore(isMenuOpen);
  return (
    <button
      type="button"
      class="menu-button"
      aria-expanded={isOpen}
      aria-controls="menu"
      onClick={() => isMenuOpen.set(!isOpen)}
    >
      <Icon name={isOpen ? "close" : "menu"} />
      <span>Menu</span>
    </button>
  );
}

interface MenuProps {
  customer: readonly Route[];
  staff: readonly Route[];
  present: Route | undefined;
}

export function Menu({ customer, staff, present: shown }: MenuProps) {
  const isOpen = useStore(isMenuOpen);
  const { moves } = useStore(place);
  useEffect(() => isMenuOpen.set(false), [moves]);
  const own = customer.filter((route) => route.menu);
  const theirs = staff.filter((route) => route.menu);
  const isCustomer = hasRole(["customer"]);
  const marked = shown?.menu ? shown.path : shown?.below;
  const isTitled = own.length > 0 && theirs.length > 0;
  const mine = own.length > 0 && (
    <Group key="own" routes={own} marked={marked} name={isCustomer ? "My money" : "Yourself"} isTitled={isTitled} />
  );
  const staffs = theirs.length > 0 && (
    <Group key="staff" routes={theirs} marked={marked} name="Administration" isTitled={isTitled} />
  );
  return (
    <div id="menu" class={isOpen ? "menu menu-open" : "menu"}>
      <div class="menu-inner">{isCustomer ? [mine, staffs] : [staffs, mine]}</div>
    </div>
  );
}

interface GroupProps {
  routes: Route[];
  marked: string | undefined;
  name: string;
  isTitled: boolean;
}

function Group({ routes, marked, name, isTitled }: GroupProps) {
  return (
    <nav class="menu-group" aria-label={name}>
      {isTitled && <p class="menu-title">{name}</p>}
      <ul role="list">
        {routes.map(({ path, menu }) => (
          <li key={path}>
            <a href={path} aria-current={path === marked ? "page" : undefined}>
              {menu && <Icon name={menu.icon} />}
              <span>{menu?.label}</span>
              {menu?.badge && <menu.badge />}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}
