// What models and people wrote, as DOM nodes: raw, or with a little markdown (paragraphs, headings, lists, code, bold).
// Nothing is ever read as HTML; special tokens and invisible characters stay to be seen in both.
(() => {
  const TOKEN = /<\|[^|<>\s]{1,60}\|>|<[｜][^<>]{1,60}[｜]>|<\/?(?:s|bos|eos|pad|unk|mask|think|start_of_turn|end_of_turn)>|\[\/?(?:INST|SYS|PAD|UNK|CLS|SEP|MASK)\]/g;
  const INLINE = /`([^`\n]+)`|\*\*(?=\S)([^*\n]+?)\*\*/g;
  const ITEM = /^ {0,6}(?:([-*+•])|(\d{1,4})[.)])\s+(.*)$/;

  const has_tokens = (written) => written.search(TOKEN) >= 0;

  function pieces(written, pattern, inner, outer) {
    const whole = document.createDocumentFragment();
    let from = 0;
    for (const found of written.matchAll(pattern)) {
      if (found.index > from) whole.append(outer(written.slice(from, found.index)));
      whole.append(inner(found));
      from = found.index + found[0].length;
    }
    if (from < written.length) whole.append(outer(written.slice(from)));
    return whole;
  }

  function element(tag, content, name) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (content) made.append(content);
    return made;
  }

  const raw = (written) => pieces(written, TOKEN, (found) => element("span", found[0], "token"), window.dianjing.text);
  const inline = (written) => pieces(written, INLINE, ([, code, bold]) => code ? element("code", raw(code)) : element("strong", raw(bold)), raw);

  function markdown(written) {
    const whole = document.createDocumentFragment();
    const lines = written.split("\n");
    let open = []; // lines of the paragraph so far
    let list = null;
    const end = () => {
      if (open.length) whole.append(element("p", inline(open.join("\n"))));
      open = [];
      list = null;
    };
    for (let at = 0; at < lines.length; at++) {
      const line = lines[at];
      const item = line.match(ITEM), heading = line.match(/^#{1,6}\s+(.*)$/);
      if (/^\s*```/.test(line)) {
        end();
        const close = lines.findIndex((other, place) => place > at && /^\s*```\s*$/.test(other));
        const code = lines.slice(at + 1, close < 0 ? undefined : close);
        whole.append(element("pre", raw(code.join("\n")), "code"));
        at = close < 0 ? lines.length : close;
      } else if (heading) {
        end();
        whole.append(element("p", element("strong", inline(heading[1])), "heading"));
      } else if (item) {
        const tag = item[1] ? "UL" : "OL";
        if (!list || list.tagName !== tag) {
          end();
          list = element(tag.toLowerCase());
          if (item[2]) list.start = Number(item[2]);
          whole.append(list);
        }
        list.append(element("li", inline(item[3])));
      } else if (!line.trim()) {
        if (!(list && ITEM.test(lines[at + 1] ?? ""))) end();
      } else if (list && /^\s/.test(line)) list.lastChild.append("\n", inline(line.trim()));
      else {
        if (list) end();
        open.push(line);
      }
    }
    end();
    return whole;
  }

  window.dianjing = { ...(window.dianjing ?? {}), markdown, raw, has_tokens };
})();
