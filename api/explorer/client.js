// Asks the edge, as any client does: a bearer token, one JSON body, server-sent events for subscriptions.

const TOKEN = 'anjuan.token';
const SESSION = 'anjuan.session';

export function token() { return sessionStorage.getItem(TOKEN); }

/** Keep a token for as long as this tab lives; `session`: it was made for this page, and ends with it. */
export function keep(value, session = false) {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
  if (session) sessionStorage.setItem(SESSION, 'yes');
  else sessionStorage.removeItem(SESSION);
}

/** The answer to one operation: `{status, milliseconds, bytes, said}`; raises AbortError when it is stopped. */
export async function ask(body, { headers = {}, signal } = {}) {
  const began = performance.now();
  const answer = await fetch('/graphql', request(body, headers, 'application/graphql-response+json, application/json;q=0.9', signal));
  const text = await answer.text();
  let said;
  try { said = JSON.parse(text); } catch { said = { errors: [{ message: text.slice(0, 500) || answer.statusText }] }; }
  return { status: answer.status, milliseconds: performance.now() - began, bytes: text.length, said };
}

/** Follow a subscription: `heard` is told each message until it ends; the last is null. */
export async function follow(body, { headers = {}, signal, heard }) {
  const answer = await fetch('/graphql', request(body, headers, 'text/event-stream', signal));
  if (!(answer.headers.get('content-type') ?? '').startsWith('text/event-stream')) {
    heard(await answer.json(), answer.status);
    return;
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split(/\r?\n\r?\n/u);
    rest = events.pop();
    for (const event of events) {
      const fields = event.split(/\r?\n/u);
      const data = fields.filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart()).join('\n');
      if (fields.includes('event: complete')) return;
      if (data) heard(JSON.parse(data), answer.status);
    }
  }
}

function request(body, headers, accept, signal) {
  const known = token();
  return {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept, ...(known ? { authorization: `Bearer ${known}` } : {}), ...headers },
    body: JSON.stringify(body),
    signal,
    credentials: 'omit',
    cache: 'no-store',
  };
}

/** A session for a staff number and its password; raises an Error with the sentences of the refusal. */
export async function signIn(institution, number, password) {
  const answer = await fetch('/sign-in', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ institution, number, password }),
    credentials: 'omit',
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(sentences(said.errors?.[0]) || answer.statusText);
  keep(said.token, true);
}

/** Forget the token; a session that was made for this page is ended, a token that was pasted is not. */
export async function signOut() {
  const known = token();
  const session = sessionStorage.getItem(SESSION) !== null;
  keep(null);
  if (!known || !session) return;
  const headers = { authorization: `Bearer ${known}`, 'content-type': 'application/json' };
  await fetch('/sign-out', { method: 'POST', headers, body: '{}', credentials: 'omit' });
}

/** What an error says, in both languages. */
export function sentences(error) {
  if (!error) return '';
  const { code, sentenceZh, field } = error.extensions ?? {};
  return [sentenceZh, error.message, [code, field && `(${field})`].filter(Boolean).join(' ')].filter(Boolean).join(' — ');
}
