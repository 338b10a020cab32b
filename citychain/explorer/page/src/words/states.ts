import { dictionary } from "../language";

/** The life of a transaction, in words. */
export const stateWords = dictionary({
  en: { received: "Received", sealed: "Sealed", approved: "Approved", rejected: "Rejected" },
  ja: { received: "受付済み", sealed: "封印済み", approved: "承認済み", rejected: "却下" },
});
