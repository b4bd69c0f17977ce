// Subscriptions as the npm packages graphql-ws and graphql-sse ask for them, against a served edge.
//
//     node subscribe.mjs URL TOKEN AGENT    # from a directory where graphql-ws, graphql-sse and ws are installed
//
// TOKEN is an auditor's, AGENT that of somebody who receives complaints. Each client follows the history from its
// beginning, is cut off, resumes after the position of its last message once more has happened, and must have been told
// every position once. What is refused must reach the client with its code.

import crypto from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json'));
const { createClient: overSocket } = require('graphql-ws');
const { createClient: overEvents } = require('graphql-sse');
const WebSocket = require('ws');

const [url, token, agent] = process.argv.slice(2);
const authorization = `Bearer ${token}`;
const FOLLOW = 'subscription ($after: BigInt!) { historyAppended(after: $after) { position lines { position } } }';
const MESSAGES = 3;

const results = [];
const check = (what, holds, seen) => results.push([what, holds, seen]);

const sockets = (more = {}) =>
  overSocket({
    url: url.replace(/^http/, 'ws'),
    webSocketImpl: WebSocket,
    connectionParams: { authorization },
    retryAttempts: 0,
    ...more,
  });
const streams = (more = {}) => overEvents({ url, headers: { authorization }, retryAttempts: 0, ...more });

/** So many messages of a subscription, then it is ended by the client. */
async function take(client, payload, count) {
  const taken = [];
  for await (const message of client.iterate(payload)) {
    taken.push(message);
    if (taken.length === count) break;
  }
  return taken;
}

/** Something happens. */
async function receive() {
  const query = `mutation ($commandId: UUID!, $at: DateTime!) {
    complaintReceive(commandId: $commandId, receivedAt: $at, channel: TELEPHONE, complainant: "王女士", statement: "等候") {
      ... on ComplaintDecided { position }
    }
  }`;
  const variables = { commandId: crypto.randomUUID(), at: new Date().toISOString() };
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${agent}` };
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  const said = await answer.json();
  if (!said.data?.complaintReceive?.position) throw new Error(JSON.stringify(said));
}

async function resumes(name, connect) {
  const told = [];
  let after = '0';
  for (let part = 0; part < MESSAGES; part += 1) {
    const client = connect();
    const [message] = await take(client, { query: FOLLOW, variables: { after } }, 1);
    if (message.errors) throw new Error(JSON.stringify(message.errors));
    told.push(...message.data.historyAppended.lines.map((line) => Number(line.position)));
    after = message.data.historyAppended.position;
    await client.dispose();
    await receive();
  }
  const whole = told.every((position, n) => position === n + 1);
  check(`${name}: cut off and resumed, every position is told once`, whole && told.length > MESSAGES, told.length);
}

async function refuses(name, connect, query, code) {
  const client = connect();
  let seen;
  try {
    const [message] = await take(client, { query }, 1);
    seen = message.errors?.[0]?.extensions?.code;
  } catch (problem) {
    seen = Array.isArray(problem) ? problem[0]?.extensions?.code : problem;
  }
  check(`${name}: ${query} is ${code}`, seen === code, seen);
  await client.dispose();
}

await resumes('graphql-ws', sockets);
await resumes('graphql-sse', streams);
for (const [name, connect] of [['graphql-ws', sockets], ['graphql-sse', streams]]) {
  await refuses(name, connect, 'subscription {', 'document.syntax');
  await refuses(name, connect, 'subscription { nobody }', 'document.invalid');
  await refuses(name, connect, '{ me { name } }', 'live.subscription');
  await refuses(name, connect, 'subscription { historyAppended(after: "-1") { position } }', 'view.no_such_position');
}

// several subscriptions share one socket, and ending one leaves the other
const shared = sockets();
const [one, two] = await Promise.all([
  take(shared, { query: FOLLOW, variables: { after: '0' } }, 1),
  take(shared, { query: 'subscription { viewLagChanged { views { view } } }' }, 1),
]);
check('graphql-ws: two subscriptions on one socket', one.length === 1 && two[0].data.viewLagChanged.views.length > 0);
await shared.dispose();

const strangers = { connectionParams: { authorization: 'Bearer anjuan_nobody' } };
let closed;
await take(sockets(strangers), { query: FOLLOW, variables: { after: '0' } }, 1).catch((event) => (closed = event.code));
check('graphql-ws: a stranger is let go with 4403', closed === 4403, closed);
let status;
await take(streams({ headers: { authorization: 'Bearer anjuan_nobody' } }), { query: FOLLOW, variables: { after: '0' } }, 1).catch(
  (problem) => (status = problem.response?.status),
);
check('graphql-sse: a stranger is told 401', status === 401, status);

// the keep-alive of the client is answered
let pongs = 0;
const alive = sockets({ keepAlive: 100, on: { pong: (received) => (pongs += received ? 1 : 0) } });
const stop = alive.subscribe({ query: FOLLOW, variables: { after: '0' } }, { next() {}, error() {}, complete() {} });
await new Promise((done) => setTimeout(done, 1000));
check('graphql-ws: pings are answered', pongs > 1, pongs);
stop();
await alive.dispose();

const wrong = results.filter(([, holds]) => !holds);
for (const [what, , seen] of wrong) console.log(`not: ${what} (${seen})`);
console.log(`subscriptions with graphql-ws and graphql-sse: ${results.length - wrong.length}/${results.length}`);
process.exit(wrong.length === 0 ? 0 : 1);
