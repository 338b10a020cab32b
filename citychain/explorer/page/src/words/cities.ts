import { dictionary } from "../language";

export const citiesWords = dictionary({
  en: {
    title: "Cities",
    map: "Map of the cities",
    find: "Find a city",
    findHint: "kanazawa, 金沢, カナザワ …",
    none: "No city is called so.",
    within: (parent: string) => `in ${parent}`,
  },
  ja: {
    title: "都市",
    map: "都市の地図",
    find: "都市を探す",
    findHint: "金沢、かなざわ、kanazawa など",
    none: "その名前の都市はありません。",
    within: (parent: string) => `${parent} の一部`,
  },
});
