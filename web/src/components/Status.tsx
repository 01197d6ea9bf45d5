/**
 * A state as icon and word; the colour only helps.
 *
 *     <Status tone="ok">Done</Status>
 */

import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./Icon";

export type Tone = "ok" | "info" | "warning" | "danger" | "neutral";

export const TONE_ICONS: Record<Tone, IconName> = {
  ok: "check",
  info: "clock",
  warning: "alert",
  danger: "close",
  neutral: "minus",
};

export function Status({ tone, icon, children }: { tone: Tone; icon?: IconName; children: ComponentChildren }) {
  return (
    <span class={`status tone-${tone}`}>
      <Icon name={icon ?? TONE_ICONS[tone]} size={16} />
      <span>{children}</span>
    </span>
  );
}
