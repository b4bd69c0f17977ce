// The page: what is asked on the left, what is answered in the middle, the schema on the right.

import { ask, follow, keep, sentences, signIn, signOut, token } from './client.js';
import { Docs } from './docs.js';
import { Editor } from './editor.js';
import { colouredJson, operations, tidy } from './lex.js';
import { INTROSPECTION, Schema, completions, named, written } from './schema.js';
import { label, turn, words } from './words.js';

const START = `# Ctrl+Enter 运行 run
# Ctrl+Space 提示 complete
query Me {
  me {
    roles
  }
}
`;
const HISTORY_MAX = 30;
const at = (id) => document.getElementById(id);
let schema = null;
let running = null;

// the tab keeps what was written and asked, the machine does not: it may name patients
const kept = JSON.parse(sessionStorage.getItem('anjuan.page') ?? 'null') ?? { document: START, variables: '{}', headers: '{}', history: [] };
const editors = {
  document: new Editor(at('document'), { label: words('document'), complete: (text, cursor) => (schema ? completions(schema, text, cursor) : { from: cursor, options: [] }), changed: changed }),
  variables: new Editor(at('variables'), { label: words('variables'), json: true, changed: changed }),
  headers: new Editor(at('headers-editor'), { label: words('headers'), json: true, changed: changed }),
};
const docs = new Docs({ search: at('search'), trail: at('trail'), page: at('page'), words, pick });
for (const [name, text] of Object.entries({ document: kept.document, variables: kept.variables, headers: kept.headers })) {
  editors[name].area.value = text;
  editors[name].draw();
}

function changed() {
  for (const [name, editor] of Object.entries(editors)) kept[name] = editor.text;
  save();
  const found = operations(kept.document);
  const select = at('operation');
  const chosen = select.value;
  select.hidden = found.length < 2;
  select.replaceChildren(...found.map((one) => new Option(`${one.kind} ${one.name}`.trim(), one.name)));
  if (found.some((one) => one.name === chosen)) select.value = chosen;
}

function save() { sessionStorage.setItem('anjuan.page', JSON.stringify(kept)); }

function object(text, name) {
  let value;
  try { value = JSON.parse(text.trim() || '{}'); } catch (problem) { throw new Error(`${words(name)}: ${problem.message}`); }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Error(`${words(name)} ${words('notJson')}`);
  return value;
}

/** The operation to run: the one the cursor is in, else the one chosen. */
function chosenOperation() {
  const found = operations(kept.document);
  const cursor = editors.document.area.selectionStart;
  const inside = document.activeElement === editors.document.area && found.find((one) => one.start <= cursor && cursor <= one.end);
  return inside || found.find((one) => one.name === at('operation').value) || found[0];
}

async function run() {
  if (running) running.abort();
  const stop = new AbortController();
  running = stop;
  at('stop').hidden = false;
  show(null);
  try {
    const operation = chosenOperation();
    if (operation?.name) at('operation').value = operation.name;
    const body = { query: kept.document, variables: object(kept.variables, 'variables') };
    if (operation?.name) body.operationName = operation.name;
    const headers = object(kept.headers, 'headers');
    if (at('purpose').value.trim()) headers['x-purpose'] = encodeURIComponent(at('purpose').value.trim());
    remember(operation);
    say(words('running'));
    if (operation?.kind === 'subscription') await followed(body, headers, stop.signal);
    else answered(await ask(body, { headers, signal: stop.signal }));
  } catch (problem) {
    if (problem.name === 'AbortError') say(words('stopped'));
    else { say(''); errors([{ message: problem instanceof TypeError ? `${words('away')}: ${problem.message}` : problem.message }]); }
  } finally {
    if (running === stop) { running = null; at('stop').hidden = true; }
  }
}

function answered({ status, milliseconds, bytes, said }) {
  say(`${status} · ${Math.round(milliseconds)} ms · ${(bytes / 1024).toFixed(1)} KB`, status >= 400);
  errors(said.errors ?? []);
  show(said);
}

async function followed(body, headers, signal) {
  const messages = [];
  await follow(body, { headers, signal, heard: (said, status) => {
    messages.unshift(said);
    messages.length = Math.min(messages.length, 100);
    say(`${status} · ${words('following')} ${messages.length}`);
    errors(said.errors ?? []);
    show(messages);
  } });
  say(`${words('ended')} · ${messages.length}`);
}

function say(text, wrong = false) {
  at('status').textContent = text;
  at('status').className = wrong ? 'problem' : '';
}

function errors(found) {
  at('errors').replaceChildren(...found.map((error) => {
    const line = document.createElement('li');
    const place = error.locations?.[0];
    line.textContent = sentences(error) + (error.path ? ` @ ${error.path.join('.')}` : '');
    if (place) {
      const go = document.createElement('button');
      go.className = 'link';
      go.textContent = ` ${place.line}:${place.column}`;
      go.addEventListener('click', () => select(place));
      line.append(go);
    }
    return line;
  }));
}

function select({ line, column }) {
  const before = kept.document.split('\n').slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0) + column - 1;
  editors.document.area.focus();
  editors.document.area.setSelectionRange(before, before + /^\w*/u.exec(kept.document.slice(before))[0].length);
}

function show(said) {
  at('answer').replaceChildren(...(said === null ? [] : colouredJson(JSON.stringify(said, null, 2))));
}

function remember(operation) {
  const one = { document: kept.document, variables: kept.variables, name: operation?.name || kept.document.replace(/#.*|\s+/gu, ' ').trim().slice(0, 40), at: new Date().toLocaleTimeString() };
  kept.history = [one, ...kept.history.filter((old) => old.document !== one.document || old.variables !== one.variables)].slice(0, HISTORY_MAX);
  save();
  drawHistory();
}

function drawHistory() {
  at('history-list').replaceChildren(...kept.history.map((one) => {
    const line = document.createElement('li');
    const again = document.createElement('button');
    again.className = 'link';
    again.textContent = `${one.at} ${one.name}`;
    again.title = one.document;
    again.addEventListener('click', () => { editors.document.text = one.document; editors.variables.text = one.variables; });
    line.append(again);
    return line;
  }));
}

/** Write a question or a decision from the docs into the document, with its required arguments as variables. */
function pick(root, field) {
  const kind = Object.keys(schema.roots).find((one) => schema.roots[one] === root);
  const needed = field.args.filter((input) => input.type.kind === 'NON_NULL' && input.defaultValue === null);
  const declared = needed.map((input) => `$${input.name}: ${written(input.type)}`).join(', ');
  const given = needed.map((input) => `${input.name}: $${input.name}`).join(', ');
  const type = schema.type(named(field.type));
  const members = type.possibleTypes && type.kind === 'UNION'
    ? type.possibleTypes.map((one) => `... on ${one.name} { ${plain(schema.type(one.name))} }`).join(' ')
    : plain(type);
  const inner = type.fields || type.possibleTypes ? ` { ${type.kind === 'UNION' ? '__typename ' : ''}${members || '__typename'} }` : '';
  const name = field.name[0].toUpperCase() + field.name.slice(1);
  const text = tidy(`${kind} ${name}${declared ? `(${declared})` : ''} { ${field.name}${given ? `(${given})` : ''}${inner} }`);
  editors.document.text = kept.document.trim() && kept.document !== START ? `${kept.document.trimEnd()}\n\n${text}` : text;
  at('operation').value = name;
  const values = { ...Object.fromEntries(needed.map((input) => [input.name, null])), ...object(kept.variables, 'variables') };
  if (needed.some((input) => input.name === 'commandId') && !values.commandId) values.commandId = crypto.randomUUID();
  editors.variables.text = JSON.stringify(values, null, 2);
}

function plain(type) {
  const leaf = (field) => ['SCALAR', 'ENUM'].includes(schema.type(named(field.type))?.kind) && !field.args.some((input) => input.type.kind === 'NON_NULL');
  return (type.fields ?? []).filter(leaf).slice(0, 8).map((field) => field.name).join(' ');
}

async function learn() {
  schema = null;
  at('who').textContent = words('notSignedIn');
  const known = token() !== null;
  at('sign').dataset.label = known ? 'signOut' : 'signIn';
  label();
  if (known) {
    try {
      const { said } = await ask({ query: INTROSPECTION });
      if (said.data) schema = new Schema(said.data);
      else errors(said.errors ?? []);
      const me = (await ask({ query: '{ me { roles } institution { code } }' })).said.data;
      at('who').textContent = me ? `${me.institution?.code ?? ''} ${me.me.roles.join(', ')}` : words('notSignedIn');
    } catch (problem) { errors([{ message: `${words('away')}: ${problem.message}` }]); }
  }
  docs.show(schema);
}

async function enter(event) {
  event.preventDefault();
  const pasted = at('token').value.trim();
  try {
    if (pasted) keep(pasted);
    else await signIn(at('institution').value.trim(), at('number').value.trim(), at('password').value);
    at('sign-dialog').close();
    await learn();
  } catch (problem) {
    at('sign-problem').textContent = problem.message;
  } finally {
    at('token').value = '';
    at('password').value = '';
  }
}

async function sign() {
  if (token() === null) { at('sign-problem').textContent = ''; at('sign-dialog').showModal(); return; }
  await signOut().catch(() => {});
  show(null);
  await learn();
}

function prettify() {
  editors.document.text = tidy(kept.document);
  try { editors.variables.text = JSON.stringify(object(kept.variables, 'variables'), null, 2); } catch (problem) { errors([{ message: problem.message }]); }
}

function tab(name) {
  for (const one of ['variables', 'headers']) {
    at(one).hidden = one !== name;
    at(`tab-${one}`).setAttribute('aria-selected', String(one === name));
  }
}

function toggle(name) {
  at(name).hidden = !at(name).hidden;
  at(`toggle-${name}`).setAttribute('aria-expanded', String(!at(name).hidden));
}

at('run').addEventListener('mousedown', (event) => event.preventDefault()); // the cursor stays where it is
at('run').addEventListener('click', run);
at('stop').addEventListener('click', () => running?.abort());
at('pretty').addEventListener('click', prettify);
at('sign').addEventListener('click', sign);
at('sign-form').addEventListener('submit', enter);
at('sign-cancel').addEventListener('click', () => at('sign-dialog').close());
at('language').addEventListener('click', () => { turn(); label(); docs.draw(); if (token() === null) at('who').textContent = words('notSignedIn'); });
for (const name of ['variables', 'headers']) at(`tab-${name}`).addEventListener('click', () => tab(name));
for (const name of ['history', 'docs']) at(`toggle-${name}`).addEventListener('click', () => toggle(name));
document.addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === 'Enter') { event.preventDefault(); run(); }
  if ((event.ctrlKey || event.metaKey) && event.shiftKey && event.key.toLowerCase() === 'f') { event.preventDefault(); prettify(); }
});
label();
changed();
drawHistory();
learn();
