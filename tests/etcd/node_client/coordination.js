// Watches, leases, locks and elections of Node's client `etcd3`; the argument is the port.
const assert = require('assert');
const { once } = require('events');
const { Etcd3 } = require('etcd3');

async function watches(client) {
  const watcher = await client.watch().prefix('watched/').withPreviousKV().create();
  const put = once(watcher, 'put');
  await client.put('watched/key').value('one');
  assert.equal((await put)[0].value.toString(), 'one');
  const gone = once(watcher, 'delete');
  await client.delete().key('watched/key');
  const [current, previous] = await gone;
  assert.equal(current.key.toString(), 'watched/key');
  assert.equal(previous.value.toString(), 'one');
  await watcher.cancel();

  const { header } = await client.put('watched/key').value('two').exec();
  const late = await client.watch().key('watched/key').startRevision(header.revision).create();
  assert.equal((await once(late, 'put'))[0].value.toString(), 'two');
  await late.cancel();
}

async function leases(client) {
  const lease = client.lease(30);
  await lease.put('leased/key').value('here');
  assert.equal(await client.get('leased/key').string(), 'here');
  assert(Number((await lease.keepaliveOnce()).TTL) > 0);
  await lease.revoke();
  assert.equal(await client.get('leased/key').string(), null);

  const short = client.lease(2, { autoKeepAlive: false });
  await short.put('leased/short').value('here');
  const watcher = await client.watch().key('leased/short').create();
  await once(watcher, 'delete');  // by itself
  await watcher.cancel();
}

async function locks(client) {
  const lock = client.lock('door');
  await lock.acquire();
  await assert.rejects(client.lock('door').acquire(), /lock/i);
  await lock.release();
  assert.equal(await client.lock('door').do(async () => 'inside'), 'inside');
}

async function elections(client) {
  const election = client.election('vote', 30);
  const first = election.campaign('first');
  await once(first, 'elected');
  assert.equal(await election.leader(), 'first');
  const observer = await election.observe();
  if (observer.leader() === undefined) await once(observer, 'change');
  assert.equal(observer.leader(), 'first');
  const changed = once(observer, 'change');
  await first.proclaim('new');
  assert.deepEqual(await changed, ['new']);
  const second = election.campaign('second');
  second.on('error', (error) => { throw error; });
  const elected = once(second, 'elected');
  await first.resign();
  await elected;
  assert.equal(await election.leader(), 'second');
  await observer.cancel();
  await second.resign();
}

async function main(client) {
  await watches(client);
  await leases(client);
  await locks(client);
  await elections(client);
}

const client = new Etcd3({ hosts: `127.0.0.1:${process.argv[2]}` });
main(client).finally(() => client.close()).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
