// For mongosh: makes a replica set of one member, if there is none, and waits for its primary.
const NOT_YET_INITIALIZED = 94;

try {
  rs.status();
} catch (error) {
  if (error.code !== NOT_YET_INITIALIZED) throw error;
  const configuration = {
    _id: process.env.REPLICA_SET,
    members: [{ _id: 0, host: process.env.MEMBER }],
  };
  if (process.env.REPLICA_SET === "config") configuration.configsvr = true;
  rs.initiate(configuration);
}
while (!db.hello().isWritablePrimary) sleep(500);
print(`${process.env.REPLICA_SET} has a primary`);
