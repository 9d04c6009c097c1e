// The key-value calls of Node's client `etcd3`; the argument is the port. Ends with status 0 if all is as expected.
const assert = require('assert');
const { Etcd3 } = require('etcd3');

async function main(client) {
  await client.delete().all();
  await client.put('color').value('red');
  assert.equal(await client.get('color').string(), 'red');
  assert.equal(await client.get('none').string(), null);
  for (let n = 0; n < 20; n++) await client.put('list/' + String(n).padStart(2, '0')).value(n);
  const all = () => client.getAll().prefix('list/');
  assert.deepEqual(await all().limit(3).strings(), { 'list/00': '0', 'list/01': '1', 'list/02': '2' });
  assert.deepEqual(await all().sort('Key', 'Descend').limit(2).keys(), ['list/19', 'list/18']);
  assert.equal(await all().count(), 20);
  assert.equal(await client.get('list/07').number(), 7);

  const previous = await client.put('color').value('blue').getPrevious();
  assert.equal(previous.value.toString(), 'red');
  const change = (target, value) => client.if('color', target, '==', value)
    .then(client.put('color').value('green')).else(client.get('color')).commit();
  assert((await change('Value', 'blue')).succeeded);
  const refused = await change('Version', 0);
  assert(!refused.succeeded);
  assert.equal(refused.responses[0].response_range.kvs[0].value.toString(), 'green');
  await client.namespace('space/').put('key').value('value');
  assert.equal(await client.get('space/key').string(), 'value');
  await client.stm().transact(async (memory) => {
    await memory.put('color').value((await memory.get('color').string()) + '!');
  });
  assert.equal(await client.get('color').string(), 'green!');
  assert.equal((await client.delete().prefix('list/')).deleted, '20');

  assert((await client.maintenance.status()).version);
  assert.equal((await client.cluster.memberList({})).members.length, 1);
  const { header } = await client.get('color').exec();
  await client.kv.compact({ revision: header.revision });
  await assert.rejects(client.get('color').revision(2).string(), /compacted/);
}

const client = new Etcd3({ hosts: `127.0.0.1:${process.argv[2]}` });
main(client).finally(() => client.close()).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
