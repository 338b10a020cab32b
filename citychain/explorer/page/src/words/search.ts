import { dictionary } from "../language";

export const searchWords = dictionary({
  en: {
    title: (query: string) => `Search: ${query}`,
    heading: (query: string) => `Found for “${query}”`,
    nothing: "Nothing is called so. An id may be given by its first eight digits.",
    city: "City",
    transaction: "Transaction",
    node: "Node",
    author: "Author",
    round: "Round",
  },
  ja: {
    title: (query: string) => `検索：${query}`,
    heading: (query: string) => `「${query}」の検索結果`,
    nothing: "見つかりませんでした。ID は最初の 8 桁でも探せます。",
    city: "都市",
    transaction: "トランザクション",
    node: "ノード",
    author: "作成者",
    round: "ラウンド",
  },
});
