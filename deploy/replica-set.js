// For mongosh, on one member: makes the replica set, if there is none, and waits for its primary.
const members = ["mongo1:27017", "mongo2:27018", "mongo3:27019"];
const NOT_YET_INITIALIZED = 94;

try {
  rs.status();
} catch (error) {
  if (error.code !== NOT_YET_INITIALIZED) throw error;
  rs.initiate({ _id: "city", members: members.map((host, id) => ({ _id: id, host })) });
}
while (!rs.status().members.some((member) => member.stateStr === "PRIMARY")) sleep(500);
print("the replica set has a primary");
