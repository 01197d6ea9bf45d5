/** A time that machines can read, too. */

import { formatTime } from "../time";

export function When({ time, style = "both" }: { time: string; style?: Parameters<typeof formatTime>[1] }) {
  return (
    <time dateTime={time} title={time.length > 10 ? formatTime(time, "both") : undefined}>
      {formatTime(time, style)}
    </time>
  );
}
