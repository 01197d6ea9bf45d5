/**
 * Rows and columns; below 40 rem of width each row becomes a small card with its columns' heads beside the values.
 *
 *     <Table caption="Latest payments" rows={entries} keyOf={(e) => String(e.position)} columns={[
 *       { head: "When", cell: (e) => <When time={e.time} style="day" /> },
 *       { head: "Who", cell: (e) => <a href={`/payments/${e.id}`}>{e.counterparty}</a>, isHead: true },
 *       { head: "Amount", cell: (e) => <Amount … />, align: "end" },
 *     ]} />
 */

import type { ComponentChildren } from "preact";

export interface Column<T> {
  head: string;
  cell: (row: T) => ComponentChildren;
  /** "end" for figures. */
  align?: "end";
  /** What the row is called: its head for screen readers, and the title of its card. */
  isHead?: boolean;
  /** Left out on narrow screens. */
  isMinor?: boolean;
}

interface TableProps<T> {
  /** What the table holds; for screen readers, shown with `showCaption`. */
  caption: string;
  showCaption?: boolean;
  columns: Column<T>[];
  rows: readonly T[];
  keyOf: (row: T) => string;
  /** Stay a table on narrow screens and scroll sideways inside. */
  wide?: boolean;
  /** A last row, such as sums: one cell for each column. */
  foot?: ComponentChildren[];
}

// The roles are said again, since `display` of another kind takes them away from tables in some browsers.
export function Table<T>({ caption, showCaption, columns, rows, keyOf, wide = false, foot }: TableProps<T>) {
  const table = (
    <table role="table" class={wide ? "table" : "table table-cards"}>
      <caption class={showCaption ? undefined : "hidden"}>{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th role="columnheader" scope="col" key={column.head} class={classOf(column)}>
              {column.head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr role="row" key={keyOf(row)}>
            {columns.map((column) => (
              <Cell key={column.head} column={column} row={row} />
            ))}
          </tr>
        ))}
      </tbody>
      {foot && (
        <tfoot role="rowgroup">
          <tr role="row">
            {columns.map((column, i) => (
              <td role="cell" key={column.head} class={classOf(column)} data-head={column.head}>
                {foot[i]}
              </td>
            ))}
          </tr>
        </tfoot>
      )}
    </table>
  );
  if (!wide) return table;
  return (
    <div class="scroll" role="region" aria-label={caption} tabIndex={0}>
      {table}
    </div>
  );
}

function classOf<T>(column: Column<T>): string | undefined {
  const names = [column.align === "end" && "end", column.isMinor && "minor", column.isHead && "row-head"];
  return names.filter(Boolean).join(" ") || undefined;
}

function Cell<T>({ column, row }: { column: Column<T>; row: T }) {
  if (column.isHead) {
    return (
      <th role="rowheader" scope="row" class={classOf(column)}>
        {column.cell(row)}
      </th>
    );
  }
  return (
    <td role="cell" class={classOf(column)} data-head={column.head}>
      {column.cell(row)}
    </td>
  );
}
