/** A table in whatever room there is: cards on a phone, and between that and a wide screen it scrolls by itself. */

import { useEffect, useRef, useState } from "preact/hooks";
import { type Column, Table } from "../components";

interface RowsProps<T> {
  caption: string;
  columns: Column<T>[];
  rows: readonly T[];
  keyOf: (row: T) => string;
}

/** A place that scrolls can be reached by the keyboard, and one that does not is no stop on the way. */
export function Rows<T>(props: RowsProps<T>) {
  const place = useRef<HTMLDivElement>(null);
  const [isCut, setCut] = useState(false);
  useEffect(() => {
    const box = place.current;
    if (!box) return undefined;
    const look = () => setCut(box.scrollWidth > box.clientWidth + 1);
    const watcher = new ResizeObserver(look);
    watcher.observe(box);
    if (box.firstElementChild) watcher.observe(box.firstElementChild);
    return () => watcher.disconnect();
  }, []);
  const reach = isCut ? { role: "region" as const, tabIndex: 0, "aria-label": `${props.caption}, scrolls sideways` } : {};
  return (
    <div class="rows" ref={place} {...reach}>
      <Table {...props} />
    </div>
  );
}
