// The audits of GraphQL over HTTP, of the npm package graphql-http, against a served edge.
//
//     node audit.mjs URL TOKEN LEAST    # from a directory where graphql-http is installed; fails below LEAST passed
//
// Then what the audits leave out: 405 for a command by GET, one media type for everything asked by
// application/graphql-response+json, other charsets refused.

import { createRequire } from 'node:module';
import { join } from 'node:path';

const { serverAudits } = createRequire(join(process.cwd(), 'package.json'))('graphql-http');
const [url, token, least] = process.argv.slice(2);
const signedIn = (input, init = {}) =>
  fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } });

const passed = {};
const all = {};
let count = 0;
for (const audit of serverAudits({ url, fetchFn: signedIn })) {
  const level = audit.name.split(' ')[0];
  const result = await audit.fn();
  all[level] = (all[level] ?? 0) + 1;
  if (result.status === 'ok') {
    passed[level] = (passed[level] ?? 0) + 1;
    count += 1;
  } else {
    console.log(`${result.status} ${audit.id} ${audit.name}: ${result.reason}`);
  }
}
const levels = ['MUST', 'SHOULD', 'MAY'].map((level) => `${level} ${passed[level] ?? 0}/${all[level]}`);
console.log(`graphql-http audits passed: ${count} (${levels.join(', ')}); at least ${least} must`);

const modern = 'application/graphql-response+json';
const query = (text) => `${url}?${new URLSearchParams({ query: text })}`;
const post = (headers, body) => signedIn(url, { method: 'POST', headers, body });
const beyond = [
  ['a command by GET is 405', (await signedIn(query('mutation { __typename }'))).status === 405],
  ['a question by GET is answered', (await signedIn(query('{ __typename }'))).status === 200],
];
for (const charset of ['utf-16', 'latin1', 'gbk']) {
  const answer = await post({ 'content-type': `application/json; charset=${charset}` }, '{"query": "{ __typename }"}');
  beyond.push([`charset ${charset} is 415`, answer.status === 415]);
}
for (const body of ['{"query": "{"}', '{"query": "{ nobody }"}', '{"query": "query($n: Int!) { complaints(first: $n) { totalCount } }"}']) {
  const answer = await post({ 'content-type': 'application/json', accept: modern }, body);
  const said = await answer.json();
  const kind = answer.headers.get('content-type');
  beyond.push([`${body} never ran`, answer.status === 400 && !('data' in said) && kind.startsWith(modern)]);
}
const wrong = beyond.filter(([, holds]) => !holds).map(([what]) => what);
console.log(`beyond the audits: ${beyond.length - wrong.length}/${beyond.length}${wrong.length ? `; not: ${wrong.join('; ')}` : ''}`);
process.exit(count >= Number(least) && wrong.length === 0 ? 0 : 1);
