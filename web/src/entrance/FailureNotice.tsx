/** Shows why somebody could not come in. */

import { Notice } from "../components";
import type { Failure } from "./failure";

export function FailureNotice({ failure }: { failure: Failure }) {
  return (
    <Notice tone={failure.tone} title={failure.title} alert>
      {failure.words && <p>{failure.words}</p>}
      {failure.code && (
        <p class="notice-foot">
          <span class="code">Code {failure.code}</span>
        </p>
      )}
    </Notice>
  );
}
