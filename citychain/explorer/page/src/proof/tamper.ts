/** A receipt with one bit altered, to see that the check finds it. */

/** Alters a hash beside the way to the root, or else a vote; the form stays right. */
export function altered(file: string): string {
  const receipt = JSON.parse(file);
  const one = receipt.levels?.[0] ?? receipt.top ?? receipt;
  const [sibling] = one.inclusion ?? [];
  if (sibling) one.inclusion[0] = flipped(sibling);
  else if (one.certificate)
    one.certificate.votes[0].signature = flipped(one.certificate.votes[0].signature);
  return JSON.stringify(receipt, null, 1);
}

/** The lowest bit of the first byte flipped. */
function flipped(base64: string): string {
  const data = atob(base64);
  return btoa(String.fromCharCode(data.charCodeAt(0) ^ 1) + data.slice(1));
}
