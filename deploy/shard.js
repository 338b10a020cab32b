// For mongosh, on a router: adds the shards, and shards the collections of citychain.
//
// DATABASE is the database. SHARDS names the shards' replica sets, with spaces between them: none
// where they are added already. Whatever is done already is left as it is.
const fs = require("fs");
const path = require("path");

const database = process.env.DATABASE || "citychain";
const keys = JSON.parse(fs.readFileSync(path.join(__dirname, "shard-keys.json"), "utf8"));

for (const shard of (process.env.SHARDS || "").split(" ").filter(Boolean)) sh.addShard(shard);
for (const [collection, key] of Object.entries(keys)) {
  sh.shardCollection(`${database}.${collection}`, key);
  print(`${database}.${collection} is sharded by ${JSON.stringify(key)}`);
}
