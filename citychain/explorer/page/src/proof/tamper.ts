/** A receipt with one bit altered, to see that the check finds it. */

/** Alters a hash beside the way to the root, or else a vote; the form stays right. */
export function altered(file: string): string {
  const receipt = JSON.parse(file);
  const top = receipt.top ?? receipt;
  // Alone in its ledger, a transaction is the root: there is no hash beside it.
  const way = [...(receipt.levels ?? []), top].find((one) => one.inclusion?.length > 0);
  if (way) way.inclusion[0] = flipped(way.inclusion[0]);
  else top.certificate.votes[0].signature = flipped(top.certificate.votes[0].signature);
  return JSON.stringify(receipt, null, 1);
}

/** The lowest bit of the first byte flipped. */
function flipped(base64: string): string {
  const data = atob(base64);
  return btoa(String.fromCharCode(data.charCodeAt(0) ^ 1) + data.slice(1));
}
