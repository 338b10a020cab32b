import { dictionary } from "../language";

export const citiesWords = dictionary({
  en: {
    title: "Cities",
    map: "Map of the cities",
    find: "Find a city",
    findHint: "kanazawa, 金沢, カナザワ …",
    none: "No city is called so.",
    listed: (count: string) => `The first ${count} are listed. Find others by their names.`,
    mapped: (count: string) => `The map shows the first ${count} that are open.`,
    within: (parent: string) => `in ${parent}`,
  },
  ja: {
    title: "都市",
    map: "都市の地図",
    find: "都市を探す",
    findHint: "金沢、かなざわ、kanazawa など",
    none: "その名前の都市はありません。",
    listed: (count: string) => `最初の ${count} 件です。ほかの都市は名前で探してください。`,
    mapped: (count: string) => `地図には、開いている最初の ${count} 都市を示しています。`,
    within: (parent: string) => `${parent} の一部`,
  },
});
