// node-postgres: its own protocol; statements prepared under names of the caller's choice.
'use strict';

const assert = require('node:assert/strict');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { setTimeout: pause } = require('node:timers/promises');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const copy = require('pg-copy-streams');

const KEYS = {
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  connectionTimeoutMillis: 20000,
};
// More than the gateway's pool has server connections.
const CLIENTS = 6;
const REPEAT = 100;
const BIG = 10 * 1024 * 1024;
const MANY = 100000;
const COPIED = 40000;
const FILLER = 'copied '.repeat(13);
const ZONES = ['Asia/Tokyo', 'America/Lima', 'Europe/Paris', 'Africa/Cairo', 'Asia/Kolkata', 'Pacific/Auckland'];
const STYLES = ['ISO, DMY', 'German, DMY', 'SQL, MDY', 'Postgres, MDY', 'ISO, YMD', 'SQL, DMY'];

async function connect(more = {}) {
  const client = new Client({ ...KEYS, ...more });
  await client.connect();
  return client;
}

async function clients() {
  return Promise.all(Array.from({ length: CLIENTS }, (_, n) => connect({ application_name: `node ${n}` })));
}

async function end(...all) {
  await Promise.all(all.map((client) => client.end()));
}

async function one(client, ...query) {
  const result = await client.query(...query);
  return Object.values(result.rows[0])[0];
}

async function refused(code, promise) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.code, code, `${error}`);
    return true;
  });
}

const checks = {
  async login() {
    const client = await connect();
    assert.equal(await one(client, 'SELECT current_user::text'), KEYS.user);
    await client.end();
    await refused('28P01', connect({ password: 'wrong' }));
  },

  async tables() {
    const client = await connect();
    await client.query('DROP TABLE IF EXISTS node_t, node_copy');
    await client.query('CREATE TABLE node_t (id int PRIMARY KEY, v text)');
    await client.query('CREATE TABLE node_copy (id int PRIMARY KEY, v text)');
    await client.query('SELECT settle()');
    await client.end();
  },

  async parameters() {
    const all = await clients();
    for (const [n, client] of all.entries()) {
      await client.query(`SET TimeZone TO '${ZONES[n]}'`);
      await client.query(`SET DateStyle TO '${STYLES[n]}'`);
      await client.query(`SET search_path TO schema_${n}, public`);
    }
    for (let round = 0; round < 5; round += 1) {
      for (const [n, client] of all.entries()) {
        assert.equal(await one(client, 'SHOW TimeZone'), ZONES[n]);
        assert.equal(await one(client, 'SHOW DateStyle'), STYLES[n]);
        assert.equal(await one(client, "SELECT current_setting('search_path')"), `schema_${n}, public`);
        assert.equal(await one(client, 'SHOW application_name'), `node ${n}`);
      }
    }
    await end(...all);
  },

  async prepared() {
    const all = await clients();
    for (let n = 0; n < REPEAT; n += 1) {
      const answers = all.map((client, m) =>
        one(client, { name: 'sum', text: 'SELECT $1::int * 1000 + $2::int', values: [n, m] }));
      assert.deepEqual(await Promise.all(answers), all.map((_, m) => n * 1000 + m));
    }
    await end(...all);
  },

  async one_name_many_texts() {
    const all = await clients();
    for (let n = 0; n < REPEAT; n += 1) {
      const answers = all.map((client, m) => one(client, { name: 'same', text: `SELECT 'client ${m} ' || $1::text`, values: [n] }));
      assert.deepEqual(await Promise.all(answers), all.map((_, m) => `client ${m} ${n}`));
    }
    await end(...all);
  },

  async at_once() {
    const work = async (m) => {
      const client = await connect();
      for (let n = 0; n < REPEAT; n += 1) {
        assert.equal(await one(client, 'SELECT $1::int * 1000 + $2::int', [n, m]), n * 1000 + m);
        await client.query('BEGIN');
        assert.equal(await one(client, { name: 'who', text: `SELECT 'client ${m}'` }), `client ${m}`);
        assert.equal(await one(client, { name: 'what', text: 'SELECT $1::text', values: [n] }), `${n}`);
        await client.query('COMMIT');
      }
      await client.end();
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, m) => work(m)));
  },

  async pools() {
    const pool = new Pool({ ...KEYS, max: CLIENTS });
    const work = async (m) => {
      for (let n = 0; n < REPEAT; n += 1) {
        assert.equal(await one(pool, { name: 'sum', text: 'SELECT $1::int * 1000 + $2::int', values: [n, m] }), n * 1000 + m);
      }
    };
    await Promise.all(Array.from({ length: 2 * CLIENTS }, (_, m) => work(m)));
    await pool.end();
  },

  async transactions() {
    const client = await connect();
    const insert = (id, v) => client.query({ name: 'insert', text: 'INSERT INTO node_t VALUES ($1, $2)', values: [id, v] });
    await client.query('BEGIN');
    await insert(1, 'committed');
    await client.query('COMMIT');
    await client.query('BEGIN');
    await insert(2, 'rolled back');
    await client.query('ROLLBACK');
    await client.query('BEGIN');
    await insert(3, 'kept');
    await client.query('SAVEPOINT s');
    await refused('23505', insert(1, 'again'));
    await refused('25P02', client.query('SELECT 1'));
    await client.query('ROLLBACK TO SAVEPOINT s');
    await insert(4, 'kept too');
    await client.query('COMMIT');
    assert.deepEqual(await one(client, 'SELECT array_agg(id ORDER BY id) FROM node_t'), [1, 3, 4]);
    await client.query('BEGIN READ ONLY');
    assert.equal(await one(client, 'SELECT count(*) FROM node_t'), '3');
    await refused('25006', insert(5, 'no'));
    await client.query('ROLLBACK');
    await client.query('BEGIN');
    await refused('22012', client.query('SELECT 1 / $1::int', [0]));
    assert.equal((await client.query('COMMIT')).command, 'ROLLBACK');
    await client.end();
  },

  async cursors() {
    const client = await connect();
    await client.query('BEGIN');
    const cursor = client.query(new Cursor('SELECT n FROM generate_series(1, $1::int) n', [5000]));
    let total = 0;
    for (let rows = await cursor.read(100); rows.length > 0; rows = await cursor.read(100)) {
      total += rows.reduce((sum, row) => sum + row.n, 0);
    }
    assert.equal(total, (5000 * 5001) / 2);
    await cursor.close();
    await client.query('COMMIT');
    // Outside a transaction, and left in the middle.
    for (let n = 0; n < 10; n += 1) {
      const left = client.query(new Cursor('SELECT n FROM generate_series(1, $1::int) n', [5000]));
      assert.equal((await left.read(10)).length, 10);
      await left.close();
    }
    assert.equal(await one(client, "SELECT 'works'"), 'works');
    await client.end();
  },

  async copies() {
    const client = await connect();
    const rows = Array.from({ length: COPIED }, (_, n) => `${n}\t${FILLER}\n`);
    await pipeline(Readable.from(rows), client.query(copy.from('COPY node_copy FROM STDIN')));
    const out = client.query(copy.to('COPY (SELECT * FROM node_copy ORDER BY id) TO STDOUT'));
    const found = [];
    for await (const chunk of out) found.push(chunk);
    assert.ok(Buffer.concat(found).toString() === rows.join(''));
    const broken = ['700000\tfine\n', 'not a number\t\n', ...Array.from({ length: 50000 }, () => '800000\tx\n')];
    await refused('22P02', pipeline(Readable.from(broken), client.query(copy.from('COPY node_copy FROM STDIN'))));
    const gives_up = client.query(copy.from('COPY node_copy FROM STDIN'));
    gives_up.on('error', () => {});
    gives_up.write('700000\tfine\n');
    gives_up.destroy(new Error('the client gives up'));
    assert.equal(await one(client, 'SELECT count(*) FROM node_copy'), String(COPIED));
    await client.end();
  },

  async cancelled() {
    const client = await connect();
    const other = await connect();
    const sleeping = { text: 'SELECT pg_sleep(60)' };
    const slept = client.query(sleeping);
    const outcome = refused('57014', slept);
    await pause(300);
    const asking = new Client(KEYS);
    asking.cancel(client, client._activeQuery);
    await outcome;
    for (let n = 0; n < 10; n += 1) {
      assert.equal(await one(client, 'SELECT $1::int', [n]), n);
      assert.equal(await one(other, 'SELECT $1::int', [n]), n);
    }
    await end(client, other);
  },

  async notifications() {
    const listener = await connect();
    const sender = await connect();
    const found = [];
    listener.on('notification', (message) => found.push(message.payload));
    await listener.query('LISTEN node_channel');
    for (let n = 0; n < 20; n += 1) await sender.query("SELECT pg_notify('node_channel', $1)", [`number ${n}`]);
    for (let n = 0; n < 400 && found.length < 20; n += 1) await pause(50);
    assert.deepEqual(found, Array.from({ length: 20 }, (_, n) => `number ${n}`));
    await end(listener, sender);
  },

  async mistakes() {
    const client = await connect();
    const cases = [
      ['42601', ['SELEC 1']],
      ['23505', [{ name: 'insert', text: 'INSERT INTO node_t VALUES ($1, $2)', values: [1, 'again'] }]],
      ['22012', ['SELECT 1 / $1::int', [0]]],
      ['26000', ['EXECUTE nobody_prepared_this']],
      ['42P01', ['SELECT * FROM no_such_table WHERE id = $1', [1]]],
      ['22P02', [{ name: 'typed', text: 'SELECT $1::int', values: ['not a number'] }]],
    ];
    for (const [code, query] of cases) {
      for (let n = 0; n < 5; n += 1) {
        await refused(code, client.query(...query));
        assert.equal(await one(client, 'SELECT $1::text', ['works']), 'works');
      }
    }
    await client.end();
  },

  async sizes() {
    const client = await connect();
    const big = 'x'.repeat(BIG);
    assert.ok(await one(client, 'SELECT $1::text', [big]) === big);
    assert.ok((await one(client, 'SELECT $1::bytea', [Buffer.from(big)])).equals(Buffer.from(big)));
    // Bytes below 128 only: the driver takes binary values for text on their way.
    assert.equal(await one(client, { text: 'SELECT $1::int4', values: [0x01234567], binary: true }), 0x01234567);
    const result = await client.query("SELECT n, NULL::text AS nothing, 'row ' || n AS v FROM generate_series(1, $1::int) n", [MANY]);
    assert.equal(result.rows.length, MANY);
    assert.deepEqual(result.rows[MANY - 1], { n: MANY, nothing: null, v: `row ${MANY}` });
    assert.equal((await client.query('SELECT 1 WHERE $1', [false])).rows.length, 0);
    assert.equal((await client.query('')).rows.length, 0);
    await client.end();
  },

  async forgetting() {
    const client = await connect();
    await client.query("SET TimeZone TO 'Asia/Tokyo'");
    await client.query('DISCARD ALL');
    assert.notEqual(await one(client, 'SHOW TimeZone'), 'Asia/Tokyo');
    assert.equal(await one(client, { name: 'after', text: 'SELECT 1' }), 1);
    // Its own statements are gone then, as on a server.
    await client.query('DEALLOCATE ALL');
    await refused('26000', client.query({ name: 'after', text: 'SELECT 1' }));
    assert.equal(await one(client, { name: 'again', text: 'SELECT 2' }), 2);
    await client.query('DEALLOCATE again');
    await refused('26000', client.query({ name: 'again', text: 'SELECT 2' }));
    await client.end();
  },

  async several_in_one() {
    const client = await connect();
    const results = await client.query("SELECT 1 AS a; INSERT INTO node_t VALUES (61, ''); SELECT 3 AS a");
    assert.deepEqual(results.map((result) => result.command), ['SELECT', 'INSERT', 'SELECT']);
    await refused('23505', client.query("INSERT INTO node_t VALUES (60, ''); INSERT INTO node_t VALUES (61, '')"));
    assert.equal(await one(client, 'SELECT count(*) FROM node_t WHERE id = 60'), '0');
    await client.end();
  },

  async queued() {
    // Many queries before the first is answered.
    const client = await connect();
    const answers = await Promise.all(Array.from({ length: 200 }, (_, n) => one(client, 'SELECT $1::int', [n])));
    assert.deepEqual(answers, Array.from({ length: 200 }, (_, n) => n));
    await client.end();
  },
};

async function main() {
  for (const [name, check] of Object.entries(checks)) {
    const began = Date.now();
    try {
      await check();
    } catch (error) {
      console.log(`FAILED ${name}\n${error.stack}`);
      process.exit(1);
    }
    console.log(`ok ${name} (${((Date.now() - began) / 1000).toFixed(2)} s)`);
  }
  process.exit(0);
}

main();
