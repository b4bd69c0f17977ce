// A text area with colours behind it, line numbers beside it and completions below the cursor.

import { coloured, colouredJson } from './lex.js';

const INDENT = '  ';

export class Editor {
  /** `complete(text, cursor)` says what may stand there; `json` colours as JSON. */
  constructor(place, { label, json = false, complete = null, changed = () => {} }) {
    this.json = json;
    this.complete = complete;
    this.changed = changed;
    this.options = [];
    this.chosen = 0;
    this.numbers = made('div', 'numbers', place);
    const sheet = made('div', 'sheet', place);
    this.behind = made('pre', 'behind', sheet);
    this.area = made('textarea', '', sheet);
    this.popup = made('ul', 'popup', sheet);
    Object.assign(this.area, { spellcheck: false, autocapitalize: 'off', autocomplete: 'off', wrap: 'off' });
    this.area.setAttribute('aria-label', label);
    this.popup.hidden = true;
    this.popup.setAttribute('role', 'listbox');
    this.numbers.setAttribute('aria-hidden', 'true');
    this.behind.setAttribute('aria-hidden', 'true');
    this.area.addEventListener('input', () => this.typed());
    this.area.addEventListener('keydown', (event) => this.key(event));
    this.area.addEventListener('scroll', () => this.scrolled());
    this.area.addEventListener('focus', () => { this.leaving = false; });
    this.area.addEventListener('blur', () => setTimeout(() => this.close(), 150));
    this.draw();
  }

  get text() { return this.area.value; }

  set text(value) {
    this.area.value = value;
    this.draw();
    this.changed();
  }

  draw() {
    this.behind.replaceChildren(...(this.json ? colouredJson(this.text) : coloured(this.text)), '\n');
    const lines = this.text.split('\n').length;
    this.numbers.textContent = Array.from({ length: lines }, (_, line) => line + 1).join('\n');
    this.scrolled();
  }

  scrolled() {
    this.behind.scrollTop = this.area.scrollTop;
    this.behind.scrollLeft = this.area.scrollLeft;
    this.numbers.scrollTop = this.area.scrollTop;
  }

  typed() {
    this.draw();
    this.changed();
    const before = this.text[this.area.selectionStart - 1] ?? '';
    if (/[\w$@.]/u.test(before)) this.offer();
    else this.close();
  }

  /** Show what may stand at the cursor. */
  offer() {
    if (!this.complete) return;
    const { from, options } = this.complete(this.text, this.area.selectionStart);
    const typed = this.text.slice(from, this.area.selectionStart);
    this.from = from;
    this.options = options.length === 1 && options[0].text === typed ? [] : options.slice(0, 200);
    this.chosen = 0;
    this.popup.hidden = this.options.length === 0;
    if (!this.popup.hidden) this.list();
  }

  list() {
    this.popup.replaceChildren(...this.options.map((option, index) => {
      const line = document.createElement('li');
      line.setAttribute('role', 'option');
      line.setAttribute('aria-selected', String(index === this.chosen));
      if (option.deprecated) line.className = 'deprecated';
      made('b', '', line).textContent = option.text;
      made('i', '', line).textContent = option.detail ?? '';
      if (option.description) made('small', '', line).textContent = option.description;
      line.addEventListener('mousedown', (event) => { event.preventDefault(); this.take(index); });
      return line;
    }));
    const lines = this.text.slice(0, this.from).split('\n');
    const { lineHeight } = getComputedStyle(this.area);
    this.popup.style.top = `${lines.length * parseFloat(lineHeight) + 8 - this.area.scrollTop}px`;
    this.popup.style.left = `min(${wide(lines.at(-1))}ch + 8px - ${this.area.scrollLeft}px, 100% - 22rem)`;
    this.popup.children[this.chosen]?.scrollIntoView({ block: 'nearest' });
  }

  take(index) {
    const option = this.options[index];
    if (!option) return;
    this.insert(option.insert ?? option.text, this.from);
    this.close();
  }

  /** Put text in place of what is selected, or of what stands from `from` to the cursor; undo works. */
  insert(text, from = this.area.selectionStart) {
    this.area.focus();
    this.area.setSelectionRange(from, this.area.selectionEnd);
    if (!document.execCommand('insertText', false, text)) {
      this.area.setRangeText(text, from, this.area.selectionEnd, 'end');
    }
    this.draw();
    this.changed();
  }

  close() { this.popup.hidden = true; this.options = []; }

  key(event) {
    const open = !this.popup.hidden;
    if (event.ctrlKey && event.key === ' ') this.offer();
    else if (open && event.key === 'ArrowDown') this.choose(1);
    else if (open && event.key === 'ArrowUp') this.choose(-1);
    else if (open && (event.key === 'Enter' || event.key === 'Tab') && !event.ctrlKey) this.take(this.chosen);
    else if (event.key === 'Escape' && open) this.close();
    else if (event.key === 'Escape') this.leaving = true;
    else if (event.key === 'Enter' && !event.ctrlKey && !event.metaKey) this.newLine();
    else if (event.key === 'Tab' && !event.shiftKey && !event.altKey && this.tabs) this.insert(INDENT);
    else return;
    event.preventDefault();
  }

  choose(step) {
    this.chosen = (this.chosen + step + this.options.length) % this.options.length;
    this.list();
  }

  newLine() {
    const before = this.text.slice(0, this.area.selectionStart);
    const after = this.text[this.area.selectionEnd];
    const indent = /[^\n]*$/u.exec(before)[0].match(/^\s*/u)[0];
    const opens = /[{([]\s*$/u.test(before);
    this.insert(`\n${indent}${opens ? INDENT : ''}`);
    if (opens && after && '})]'.includes(after)) {
      const at = this.area.selectionStart;
      this.insert(`\n${indent}`);
      this.area.setSelectionRange(at, at);
    }
  }

  /** Whether Tab indents; where it does, Escape and then Tab goes on to the next part of the page. */
  get tabs() { return !this.leaving; }
}

/** How many columns a line takes: Chinese signs take two. */
function wide(line) {
  return [...line].reduce((sum, sign) => sum + (sign.codePointAt(0) > 0x2e7f ? 2 : 1), 0);
}

function made(name, kind, place) {
  const one = document.createElement(name);
  if (kind) one.className = kind;
  place.append(one);
  return one;
}
