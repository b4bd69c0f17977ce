// The schema as the edge shows it, and what may stand at a place of a document.

import { tokens } from './lex.js';

const REF = 'kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } }';
const INPUT = `name description defaultValue type { ${REF} }`;
export const INTROSPECTION = `query Introspection { __schema {
  queryType { name } mutationType { name } subscriptionType { name }
  directives { name description args { ${INPUT} } }
  types { kind name description
    fields(includeDeprecated: true) { name description isDeprecated deprecationReason type { ${REF} } args { ${INPUT} } }
    inputFields { ${INPUT} } enumValues(includeDeprecated: true) { name description } possibleTypes { name } interfaces { name } }
} }`;

/** The type without its brackets and marks. */
export function named(type) {
  while (type && type.ofType) type = type.ofType;
  return type ? type.name : null;
}

/** The type as it is written. */
export function written(type) {
  if (type.kind === 'NON_NULL') return `${written(type.ofType)}!`;
  if (type.kind === 'LIST') return `[${written(type.ofType)}]`;
  return type.name;
}

export class Schema {
  constructor({ __schema: said }) {
    this.types = new Map(said.types.map((type) => [type.name, type]));
    this.directives = said.directives;
    this.roots = { query: said.queryType?.name, mutation: said.mutationType?.name, subscription: said.subscriptionType?.name };
  }

  type(name) { return this.types.get(name) ?? null; }

  field(type, name) { return type?.fields?.find((field) => field.name === name) ?? null; }

  /** Types and fields whose names or descriptions hold the words: `{type, field}`, names first. */
  search(words) {
    const wanted = words.toLowerCase();
    const found = [];
    const weigh = (one) => (one.name.toLowerCase().startsWith(wanted) ? 0 : one.name.toLowerCase().includes(wanted) ? 1
      : (one.description ?? '').toLowerCase().includes(wanted) ? 2 : 9);
    for (const type of this.types.values()) {
      if (type.name.startsWith('__')) continue;
      found.push([weigh(type), { type }]);
      for (const field of type.fields ?? type.inputFields ?? []) found.push([weigh(field), { type, field }]);
    }
    return found.filter(([weight]) => weight < 9).sort((a, b) => a[0] - b[0]).slice(0, 60).map(([, one]) => one);
  }
}

/** What may stand at the cursor: `{from, options: [{text, detail, description, insert}]}`. */
export function completions(schema, text, cursor) {
  const all = tokens(text);
  const touched = all.find((token) => token.start < cursor && cursor <= token.end && token.kind !== 'mark');
  if (touched && (touched.kind === 'string' || touched.kind === 'number')) return { from: cursor, options: [] };
  const from = touched ? touched.start : cursor;
  const prefix = text.slice(from, cursor).toLowerCase();
  const place = walked(schema, all.filter((token) => token.end <= from));
  const options = offered(schema, place, text, all).filter((option) => option.text.toLowerCase().startsWith(prefix));
  return { from, options };
}

/** The frames around the last of these tokens, the innermost last. */
function walked(schema, before) {
  const frames = [{ kind: 'document', words: [] }];
  const rules = { document: inDocument, selection: inSelection, arguments: inArguments, object: inArguments, variables: inVariables };
  for (const token of before) rules[frames.at(-1).kind](schema, frames, token);
  return frames.at(-1);
}

function inDocument(schema, frames, { text, kind }) {
  const top = frames.at(-1);
  if (text === '{') {
    const [first, , on, target] = top.words;
    const name = first === 'fragment' ? (on === 'on' ? target : null) : schema.roots[first ?? 'query'];
    frames.push({ kind: 'selection', type: schema.type(name) });
    top.words = [];
  } else if (text === '(') {
    frames.push({ kind: 'variables' });
  } else if (kind === 'name') {
    top.words.push(text);
  }
}

function inSelection(schema, frames, { text, kind }) {
  const top = frames.at(-1);
  if (text === '{') {
    const inner = top.inline ?? (top.spread ? top.type : schema.type(named(top.field?.type)));
    Object.assign(top, { inline: null, spread: false, on: false, field: null, directive: null });
    frames.push({ kind: 'selection', type: inner });
  } else if (text === '}') {
    frames.pop();
  } else if (text === '(') {
    const directive = schema.directives.find((one) => `@${one.name}` === top.directive);
    frames.push({ kind: 'arguments', inputs: (top.directive ? directive?.args : top.field?.args) ?? [], used: new Set() });
  } else if (text === '...') {
    Object.assign(top, { spread: true, on: false, inline: null, field: null, directive: null });
  } else if (kind === 'directive') {
    top.directive = text;
  } else if (kind === 'name') {
    top.directive = null;
    if (top.spread && !top.on && text === 'on') top.on = true;
    else if (top.on) Object.assign(top, { inline: schema.type(text), on: false });
    else if (top.spread && !top.inline) top.spread = false;
    else Object.assign(top, { field: schema.field(top.type, text), spread: false, inline: null });
  }
}

function inArguments(schema, frames, { text, kind }) {
  const top = frames.at(-1);
  if (text === ')' || (text === '}' && top.kind === 'object')) {
    frames.pop();
    if (frames.at(-1).input && !frames.at(-1).list) frames.at(-1).input = null;
  } else if (text === '{') {
    const type = schema.type(named(top.input?.type));
    frames.push({ kind: 'object', inputs: type?.inputFields ?? [], used: new Set() });
  } else if (text === '[') {
    top.list = true;
  } else if (text === ']') {
    Object.assign(top, { list: false, input: null });
  } else if (text === ':') {
    top.input = top.inputs.find((input) => input.name === top.last) ?? { type: null };
  } else if (top.input) {
    if (!top.list) top.input = null; // a value
  } else if (kind === 'name') {
    top.last = text;
    top.used.add(text);
  }
}

function inVariables(schema, frames, { text }) {
  const top = frames.at(-1);
  if (text === ')') frames.pop();
  else if (text === ':') top.typed = true;
  else if (text.startsWith('$')) top.typed = false;
}

function offered(schema, place, text, all) {
  switch (place.kind) {
    case 'document':
      if (place.words.length === 0) return ['query', 'mutation', 'subscription', 'fragment'].filter((word) => word === 'fragment' || schema.roots[word]).map((word) => ({ text: word }));
      if (place.words[0] === 'fragment' && place.words.at(-1) === 'on') return composites(schema);
      return [];
    case 'variables':
      return place.typed ? [...schema.types.values()].filter((type) => ['SCALAR', 'ENUM', 'INPUT_OBJECT'].includes(type.kind) && !type.name.startsWith('__')).map(asType) : [];
    case 'selection':
      return inSelectionOffered(schema, place, all);
    default:
      return place.input ? values(schema, place.input.type, all) : place.inputs.filter((input) => !place.used.has(input.name)).map(asInput);
  }
}

function inSelectionOffered(schema, place, all) {
  if (place.on) return composites(schema, place.type);
  if (place.spread) {
    const fragments = all.filter((token, index) => all[index - 1]?.text === 'fragment').map((token) => ({ text: token.text, detail: 'fragment' }));
    return [{ text: 'on', insert: 'on ' }, ...fragments];
  }
  const fields = (place.type?.fields ?? []).map((field) => ({ text: field.name, detail: written(field.type), description: field.description, deprecated: field.isDeprecated }));
  const directives = schema.directives.map((one) => ({ text: `@${one.name}`, description: one.description }));
  return [...fields, ...(place.type ? [{ text: '__typename', detail: 'String!' }] : []), ...directives];
}

function composites(schema, within) {
  const possible = within?.possibleTypes?.map((type) => type.name);
  const fits = (type) => (possible ? possible.includes(type.name) || type.name === within.name : true);
  return [...schema.types.values()].filter((type) => ['OBJECT', 'INTERFACE', 'UNION'].includes(type.kind) && !type.name.startsWith('__') && fits(type)).map(asType);
}

function values(schema, type, all) {
  const kind = schema.type(named(type));
  const variables = [...new Set(all.filter((token) => token.kind === 'variable' && token.text.length > 1).map((token) => token.text))].map((name) => ({ text: name }));
  if (kind?.name === 'Boolean') return [{ text: 'true' }, { text: 'false' }, ...variables];
  return [...(kind?.enumValues ?? []).map((one) => ({ text: one.name, detail: kind.name, description: one.description })), ...variables];
}

function asType(type) { return { text: type.name, detail: type.kind.toLowerCase().replace('_', ' '), description: type.description }; }

function asInput(input) { return { text: input.name, insert: `${input.name}: `, detail: written(input.type), description: input.description }; }
