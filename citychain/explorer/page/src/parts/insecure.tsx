/** A warning where the page came in the clear, so that others may have read or altered it. */

import { shellWords } from "../words/shell";

export function Insecure() {
  // What comes from this machine itself is as safe as what comes by TLS.
  if (isSecureContext) return null;
  return (
    <p class="trouble" role="note">
      {shellWords().insecure}
    </p>
  );
}
