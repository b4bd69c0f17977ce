// The schema to read: a search, and a page for each type.

import { named, written } from './schema.js';

export class Docs {
  /** `words` says labels in the language chosen. */
  constructor({ search, trail, page, words, pick }) {
    Object.assign(this, { search, trail, page, words, pick, path: [], schema: null });
    search.addEventListener('input', () => this.draw());
    search.addEventListener('keydown', (event) => { if (event.key === 'Escape') { search.value = ''; this.draw(); } });
  }

  show(schema) {
    this.schema = schema;
    this.path = [];
    this.draw();
  }

  draw() {
    if (!this.schema) {
      this.trail.replaceChildren();
      this.page.replaceChildren(text('p', this.words('noSchema')));
    } else if (this.search.value.trim()) {
      this.trail.replaceChildren();
      this.page.replaceChildren(...this.found(this.search.value.trim()));
    } else {
      this.trail.replaceChildren(...[null, ...this.path].map((name, index) => this.step(name, index)));
      this.page.replaceChildren(...(this.path.length ? this.type(this.schema.type(this.path.at(-1))) : this.roots()));
    }
    this.page.scrollTop = 0;
  }

  step(name, index) {
    return button(name ?? this.words('docs'), () => { this.path = this.path.slice(0, index); this.draw(); });
  }

  go(name) {
    this.search.value = '';
    this.path.push(name);
    this.draw();
  }

  roots() {
    return Object.entries(this.schema.roots).filter(([, name]) => name).map(([kind, name]) => {
      const line = document.createElement('p');
      line.append(text('code', kind), ' ', this.link(name));
      return line;
    });
  }

  found(words) {
    const lines = this.schema.search(words).map(({ type, field }) => {
      const line = document.createElement('p');
      line.append(this.link(type.name));
      if (field) line.append('.', text('b', field.name), ' ', text('code', written(field.type)));
      line.append(text('small', (field ?? type).description ?? ''));
      return line;
    });
    return lines.length ? lines : [text('p', this.words('nothing'))];
  }

  type(type) {
    const page = [text('h2', type.name), text('p', type.description ?? '')];
    if (type.possibleTypes?.length) page.push(this.names(this.words('possible'), type.possibleTypes));
    if (type.interfaces?.length) page.push(this.names(this.words('interfaces'), type.interfaces));
    for (const field of type.fields ?? type.inputFields ?? []) page.push(this.field(type, field));
    for (const value of type.enumValues ?? []) page.push(term(text('b', value.name), value.description));
    return page;
  }

  field(type, field) {
    const head = document.createElement('span');
    const root = Object.values(this.schema.roots).includes(type.name);
    head.append(root ? button(field.name, () => this.pick(type.name, field)) : text('b', field.name));
    if (field.args?.length) {
      head.append('(');
      field.args.forEach((input, index) => {
        if (index) head.append(', ');
        const name = text('span', input.name);
        name.title = input.description ?? '';
        head.append(name, ': ', this.reference(input.type));
        if (input.defaultValue !== null) head.append(` = ${input.defaultValue}`);
      });
      head.append(')');
    }
    head.append(': ', this.reference(field.type));
    return term(head, field.isDeprecated ? `${field.deprecationReason} – ${field.description ?? ''}` : field.description);
  }

  names(label, types) {
    const line = text('p', `${label} `);
    types.forEach((type, index) => { if (index) line.append(', '); line.append(this.link(type.name)); });
    return line;
  }

  reference(type) {
    const [before, after] = written(type).split(named(type));
    const made = document.createElement('code');
    made.append(before, this.link(named(type)), after);
    return made;
  }

  link(name) { return button(name, () => this.go(name)); }
}

function term(head, description) {
  const made = document.createElement('section');
  made.append(head);
  if (description) made.append(text('small', description));
  return made;
}

function text(name, said) {
  const made = document.createElement(name);
  made.textContent = said;
  return made;
}

function button(said, act) {
  const made = text('button', said);
  made.type = 'button';
  made.className = 'link';
  made.addEventListener('click', act);
  return made;
}
