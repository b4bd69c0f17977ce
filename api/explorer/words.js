// What the page says, in Chinese and English.

const WORDS = {
  run: ['运行', 'Run'],
  runTitle: ['运行光标所在的操作（Ctrl+Enter）', 'Run the operation at the cursor (Ctrl+Enter)'],
  stop: ['停止', 'Stop'],
  operation: ['要运行的操作', 'Operation to run'],
  pretty: ['整理', 'Tidy'],
  prettyTitle: ['整理文档与变量（Ctrl+Shift+F）', 'Lay out document and variables (Ctrl+Shift+F)'],
  history: ['历史', 'History'],
  docs: ['文档', 'Docs'],
  language: ['EN', '中文'],
  signIn: ['登录', 'Sign in'],
  signOut: ['退出', 'Sign out'],
  signWith: ['以工号与密码登录', 'With a staff number and its password'],
  orToken: ['或粘贴访问令牌', 'Or paste a token'],
  institution: ['机构', 'Institution'],
  number: ['工号', 'Staff number'],
  password: ['密码', 'Password'],
  token: ['访问令牌', 'Token'],
  cancel: ['取消', 'Cancel'],
  variables: ['变量', 'Variables'],
  headers: ['请求头与用途', 'Headers and purpose'],
  purpose: ['查阅用途', 'Purpose'],
  purposeHint: ['记入个人信息查阅日志', 'kept in the log of reads of personal data'],
  document: ['GraphQL 文档', 'GraphQL document'],
  search: ['搜索类型与字段', 'Search types and fields'],
  nothing: ['没有找到。', 'Nothing found.'],
  possible: ['可能的类型：', 'Possible types:'],
  interfaces: ['实现：', 'Implements:'],
  noSchema: ['登录后显示接口结构。', 'Sign in to see the schema.'],
  notJson: ['不是 JSON 对象', 'is no JSON object'],
  notSignedIn: ['未登录', 'not signed in'],
  running: ['运行中…', 'running…'],
  following: ['订阅中，已收到', 'following; messages so far:'],
  stopped: ['已停止', 'stopped'],
  ended: ['已结束', 'ended'],
  away: ['无法连接服务', 'The server cannot be reached'],
};

let chinese = (localStorage.getItem('anjuan.language') ?? navigator.language).startsWith('zh');

/** What to say for a word, in the language chosen. */
export function words(name) { return WORDS[name][chinese ? 0 : 1]; }

/** Choose the other language. */
export function turn() {
  chinese = !chinese;
  localStorage.setItem('anjuan.language', chinese ? 'zh' : 'en');
}

/** Write the words on the page. */
export function label(place = document) {
  document.documentElement.lang = chinese ? 'zh' : 'en';
  for (const one of place.querySelectorAll('[data-label]')) one.textContent = words(one.dataset.label);
  for (const one of place.querySelectorAll('[data-title]')) {
    one.title = words(one.dataset.title);
    one.setAttribute('aria-label', words(one.dataset.title));
  }
  for (const one of place.querySelectorAll('[data-placeholder]')) one.placeholder = words(one.dataset.placeholder);
}
