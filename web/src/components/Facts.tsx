/**
 * Names and values, such as the details of a payment. Values that are empty are left out.
 *
 *     <Facts of={[["Reference", payment.reference], ["Id", <Code key="id">{payment.id}</Code>]]} />
 */

import type { ComponentChildren } from "preact";

export function Facts({ of }: { of: readonly (readonly [string, ComponentChildren])[] }) {
  const told = of.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return (
    <dl class="facts">
      {told.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
