// Tokens of a GraphQL document, and what is made of them: colours, and a tidy layout.

const TOKEN = new RegExp([
  '(?<comment>#[^\\n]*)',
  '(?<string>"""(?:\\\\"""|[^])*?(?:"""|$)|"(?:\\\\.|[^"\\\\\\n])*"?)',
  '(?<variable>\\$[_A-Za-z][_0-9A-Za-z]*|\\$)',
  '(?<directive>@[_A-Za-z][_0-9A-Za-z]*|@)',
  '(?<number>-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)',
  '(?<name>[_A-Za-z][_0-9A-Za-z]*)',
  '(?<mark>\\.\\.\\.|[{}()[\\]:=!|&])',
  '(?<space>[\\s,\\ufeff]+)',
  '(?<wrong>[^])',
].join('|'), 'gu');

/** Every piece of the text in order: `{kind, text, start, end}`; joined, their texts are the document. */
export function pieces(text) {
  const found = [];
  for (const match of text.matchAll(TOKEN)) {
    const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    found.push({ kind, text: match[0], start: match.index, end: match.index + match[0].length });
  }
  return found;
}

/** The pieces that mean something. */
export function tokens(text) {
  return pieces(text).filter((piece) => piece.kind !== 'space' && piece.kind !== 'comment');
}

const KEYWORDS = new Set(['query', 'mutation', 'subscription', 'fragment', 'on', 'true', 'false', 'null']);

/** The text as coloured nodes. */
export function coloured(text) {
  return pieces(text).map((piece) => span(KEYWORDS.has(piece.text) ? 'keyword' : piece.kind, piece.text));
}

const JSON_PIECE = /("(?:\\.|[^"\\])*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|\b(true|false|null)\b|[^"\d-]+|[^]/gu;

/** JSON as coloured nodes. */
export function colouredJson(text) {
  return [...text.matchAll(JSON_PIECE)].map(([whole, string, colon, number, word]) => {
    const kind = string ? (colon ? 'key' : 'string') : number ? 'number' : word ? 'keyword' : 'mark';
    return span(kind, whole);
  });
}

function span(kind, text) {
  const made = document.createElement('span');
  made.className = `t-${kind}`;
  made.textContent = text;
  return made;
}

/** The operations of a document: `{kind, name, start, end}`, the anonymous one with an empty name. */
export function operations(text) {
  const found = [];
  let depth = 0;
  let last = null;
  for (const { kind, text: word, start, end } of tokens(text)) {
    if (word === '{' || word === '(') {
      if (word === '{' && depth === 0 && (last === null || last.closed)) {
        last = { kind: 'query', name: '', start, end };
        found.push(last);
      }
      depth += 1;
    } else if (word === '}' || word === ')') {
      depth -= 1;
      if (depth === 0 && word === '}' && last !== null) {
        last.end = end;
        last.closed = true;
      }
    } else if (depth === 0 && kind === 'name') {
      if (['query', 'mutation', 'subscription', 'fragment'].includes(word) && (last === null || last.closed)) {
        last = { kind: word, name: '', start, end };
        found.push(last);
      } else if (last !== null && !last.closed && last.name === '') {
        last.name = word;
      }
    }
  }
  return found.filter((one) => one.kind !== 'fragment');
}

/** The document laid out: two spaces a level, one field a line; comments and texts as they are. */
export function tidy(text) {
  const out = [];
  let line = '';
  let level = 0;
  let round = 0;
  const flush = () => {
    if (line.trim()) out.push('  '.repeat(level) + line.trim());
    line = '';
  };
  let before = null;
  for (const piece of pieces(text)) {
    const word = piece.text;
    if (piece.kind === 'space') {
      if (/\n\s*\n/u.test(word) && level === 0 && round === 0) { flush(); if (out.length) out.push(''); }
      continue;
    }
    if (piece.kind === 'comment') {
      flush();
      out.push('  '.repeat(level) + word.trim());
    } else if (word === '{' && round === 0) {
      line += line.trim() ? ' {' : '{';
      flush();
      level += 1;
    } else if (word === '}' && round === 0) {
      flush();
      level = Math.max(0, level - 1);
      out.push('  '.repeat(level) + '}');
    } else {
      if (startsLine(piece, before, round)) flush();
      line += joined(line, piece, before) + word;
      if ('([{'.includes(word) && word.length === 1) round += 1;
      if (')]}'.includes(word) && word.length === 1) round = Math.max(0, round - 1);
    }
    before = piece;
  }
  flush();
  return out.join('\n').replace(/\n{3,}/gu, '\n\n').trim() + '\n';
}

function startsLine(piece, before, round) {
  if (round > 0 || before === null) return false;
  if (piece.text === '...') return true;
  const afterWord = ['name', 'directive'].includes(before.kind) || before.text === ')' || before.kind === 'string';
  if (piece.kind !== 'name' || !afterWord) return false;
  // `query Name`, `fragment F on T` and `... on T` stay together
  return !KEYWORDS.has(before.text) && piece.text !== 'on';
}

function joined(line, piece, before) {
  const word = piece.text;
  if (!line.trim() || before === null) return '';
  if (word === ':' || word === '(' || word === ')' || word === ']' || word === '!') return '';
  if (before.text === '(' || before.text === '[' || (before.text === '...' && word !== 'on')) return '';
  if (before.text === ':' || word === '=' || before.text === '=' || word === '}' || before.text === '{') return ' ';
  const separate = ['variable', 'name', 'string', 'number'].includes(piece.kind) || word === '[' || word === '{';
  const ended = ['variable', 'name', 'string', 'number'].includes(before.kind) || '])}!'.includes(before.text);
  // within brackets what follows a value is the next argument
  return separate && ended && /[([{][^()[\]{}]*$/u.test(balanced(line)) ? ', ' : ' ';
}

function balanced(line) {
  let before;
  do { before = line; line = line.replace(/\([^()]*\)|\[[^[\]]*\]|\{[^{}]*\}/gu, 'x'); } while (line !== before);
  return line;
}
