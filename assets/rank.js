// The ranking widget: draws an item, listens to keys, clicks and drags, and speaks with the server. See app/rank_widget.py.
(() => {
  const LATE = 10_000; // ms after which the server is said not to answer
  const IDLE = 60_000; // ms without input after which nobody is working
  const TWICE = 500; // ms in which a second press of the same key means nothing

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));

  // Storage may be full or forbidden; then drafts last as long as the page.
  const kept = (store, name) => { try { return JSON.parse(window[store].getItem(name)); } catch { return null; } };
  const keep = (store, name, value) => { try { value === null ? window[store].removeItem(name) : window[store].setItem(name, JSON.stringify(value)); } catch { /* kept here only */ } };

  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
    return made;
  }

  function rank(element, props, watch, trigger) {
    const root = element.querySelector(".dj-rank");
    const R = window.dianjing.rank_state, number = R.number;
    let setup = null, shown = null, state = null, guideline = null, parts = null, pending = null, feedback = null;
    let mode = "", focused = 0, look = null, quiet = 0, undoing = null, moved = Date.now(), ticked = Date.now();

    const word = (name, values = {}) => {
      const given = { ...values };
      if ("left" in given) given.left = given.left === null ? word("missing_strength") : typeof given.left === "number" ? given.left ? word("left", { n: given.left }) : word("none_left") : given.left;
      if ("criterion" in given) given.criterion = criterion(given.criterion);
      for (const [list, name_] of [["flags", "flag"], ["strengths", "strength"]]) if (name_ in given && setup[list].length) given[name_] = known(list, given[name_]);
      if ("strength" in given) given.word = given.strength;
      return fill(setup.words[name], given);
    };
    const known = (list, key) => (typeof key === "number" ? setup[list][key - 1] : setup[list].find(([one]) => one === key))?.[1] ?? key;
    const criterion = (name) => (name === "overall" ? setup.words.overall : name);
    const letter = (n) => R.LETTERS[n];
    const draft = () => `dianjing rank ${setup.project} ${state.item} ${setup.rater}`;
    const read_key = () => `dianjing guideline ${setup.project} ${setup.rater}`;
    const has_read = () => !guideline.text.trim() || kept("localStorage", read_key()) === `${guideline.version}\n${guideline.text}`;

    // ---- the server

    function send(kind, said) {
      if (pending && !pending.failed) return;
      clearTimeout(pending?.timer);
      pending = { kind, id: said.client_event_id, failed: false, timer: setTimeout(fail, LATE) };
      tell("", "sending");
      paint();
      trigger[kind]({ project: setup.project, as: setup.rater, said });
    }

    function fail() {
      if (!pending || pending.failed) return;
      pending.failed = true;
      tell("problem", pending.kind === "undo" ? "undo_again" : "no_answer");
      paint();
    }

    function answered(value) {
      if (!pending || value.reply !== pending.id) return; // a late answer to what was sent again
      const { kind } = pending;
      clearTimeout(pending.timer);
      pending = null;
      if (value.error) {
        if (value.guideline) { guideline = value.guideline; return gate(true); }
        tell("problem", null, value.error);
        return paint();
      }
      quiet = performance.now() + TWICE;
      undoing = null;
      if (kind === "submit") keep("sessionStorage", draft(), null);
      if (value.shown.feedback) { feedback = { ...value.shown.feedback, next: value.shown }; return judge(); }
      show(value.shown, kind);
    }

    function submit() {
      if (mode === "feedback") { feedback = null; return show(parts.next, "submit"); }
      if (pending && !pending.failed) return;
      glance();
      const lacking = R.missing(state);
      if (lacking.length) {
        if (performance.now() < quiet && state.ranks.flat().every((one) => one === null)) return; // the second half of a double press
        const first = lacking[0];
        if (first.at !== undefined) state.at = first.at;
        tell("hint", null, lacking.map((one) => word(one.word, one.values)).join(" "));
        paint();
        return focus(first.go ?? focused);
      }
      send_label();
    }

    function send_label(reason) {
      mode = "";
      state.reason = reason;
      const label = R.said(state, guideline.version, reason);
      save();
      send("submit", label);
    }

    function undo() {
      if (performance.now() < quiet && !undoing && parts.undone) return;
      undoing ??= number();
      send("undo", { client_event_id: undoing });
    }

    const more = () => send("more", { client_event_id: number() });

    // ---- what is on the screen

    function show(value, after) {
      shown = value;
      mode = "";
      if (shown.state !== "item") { state = null; return finish(after); }
      guideline = shown.guideline;
      state = R.fresh(shown);
      const left = kept("sessionStorage", draft());
      const same = left && left.count === state.count && String(left.criteria) === String(state.criteria);
      if (same && after !== "undo") state = { ...state, ...left };
      else if (shown.previous) R.restore(state, shown.previous);
      focused = 0;
      if (!has_read()) return gate(false);
      item(after);
    }

    function item(after) {
      mode = "";
      parts = build();
      parts.undone = after === "undo";
      root.replaceChildren(live, parts.all);
      fold();
      if (state.sent.length && !after) tell("hint", "not_received");
      else if (after === "undo") tell("", "says_undone");
      else if (after) announce(`${word("says_submitted")} ${word("says_item", { n: shown.done + 1, of: shown.of })}`);
      paint();
      if (after) window.scrollTo({ top: 0 });
      focus(0, !after);
    }

    const live = el("div", { class: "unseen-text", "aria-live": "polite", role: "status" });
    const announce = (text) => { live.textContent = text; };

    function tell(kind, name, text) {
      const said = text ?? (name ? word(name) : "");
      announce(said);
      if (!parts?.hint) return;
      parts.hint.className = `told ${kind}`;
      parts.hint.replaceChildren(...(said ? [said] : []));
      if (kind === "problem" && pending?.failed) parts.hint.append(" ", button("retry", "", () => (pending.kind === "undo" ? undo() : again())));
    }

    const again = () => { state ? send_label(state.reason) : more(); };

    function button(name, key, act, more_ = {}) {
      const { text, class: kind, ...rest } = more_;
      const made = el("button", { type: "button", class: kind, "data-act": name, ...rest }, text ?? word(name), key ? el("kbd", { "aria-hidden": "true" }, key) : null);
      made.addEventListener("click", () => act());
      return made;
    }

    function bar() {
      return [el("progress", { value: shown.done, max: Math.max(1, shown.of), "aria-label": word("progress", shown) }), el("span", { class: "count" }, word("progress", shown))];
    }

    function folded() {
      if (!guideline?.text.trim()) return null;
      return el("details", { class: "guideline" }, el("summary", {}, word("guideline")), el("div", { class: "prose" }, window.dianjing.markdown(guideline.text)));
    }

    // The guideline before the first item, and whenever it changed; what was entered stays where it is.
    function gate(changed) {
      mode = changed ? "changed" : "gate";
      const confirmed = (then) => () => { keep("localStorage", read_key(), `${guideline.version}\n${guideline.text}`); then(); };
      const go_on = confirmed(() => { item("read"); if (changed) again(); });
      const main = button(changed ? "confirm_submit" : "confirm", "↵", go_on, { class: "primary" });
      const other = changed ? button("change_first", "Esc", confirmed(() => item("read"))) : null;
      parts = { enter: go_on, escape: other && (() => other.click()) };
      const note = el("p", { class: changed ? "told hint" : "soft", role: changed ? "alert" : null }, word(changed ? "changed_guideline" : "read_guideline"));
      root.replaceChildren(live, el("section", { class: "gate card", tabindex: "-1", "aria-label": word("guideline") }, note, el("div", { class: "prose" }, window.dianjing.markdown(guideline.text)), el("div", { class: "row" }, main, other)));
      root.querySelector(".gate").focus({ preventScroll: true });
      window.scrollTo({ top: 0 });
      announce(note.textContent);
    }

    function judge() {
      mode = "feedback";
      const by_letter = (tiers) => tiers.map((tier) => tier.map(letter).join(" = ")).join(" > ");
      const gold = by_letter(feedback.gold), yours = by_letter(Object.values(feedback.yours)[0]);
      const text = gold === yours ? word("right") : word("known", { gold, yours });
      parts.next = feedback.next;
      tell(gold === yours ? "right" : "hint", null, text);
      parts.hint.append(" ", button("go_on", "↵", submit, { class: "primary" }));
      paint();
      parts.hint.scrollIntoView({ block: "nearest" });
    }

    function finish(after) {
      const kind = shown.state;
      const links = [button("look_again", "", more), shown.done && kind !== "closed" ? button("undo", "U", undo) : null, el("a", { class: "button", href: setup.back }, word("all_projects"))];
      const text = kind === "done" && !shown.of ? word("empty") : word(kind);
      const hint = el("p", { class: "told" });
      root.replaceChildren(live, el("section", { class: "end", tabindex: "-1" }, el("div", { class: "row" }, ...bar()), el("h2", {}, text), el("p", { class: "soft" }, word(`${kind}_next`)), hint, el("div", { class: "row" }, ...links)));
      parts = { hint, undone: after === "undo" };
      mode = "end";
      root.querySelector(".end").focus({ preventScroll: true });
      announce(text);
    }

    // ---- an item: built once, then painted

    function build() {
      const turns = shown.prompt.map(({ role, content }) => {
        const text = typeof content === "string" ? content : JSON.stringify(content);
        const named = shown.prompt.length > 1 || role !== "user";
        return el("div", { class: `turn ${named ? "named" : ""}` }, named ? el("span", { class: "role" }, setup.words[role] ?? role) : null, el("div", { class: "text", "data-text": text }));
      });
      const tabs = state.criteria.length > 1 && el("div", { class: "tabs", role: "tablist" }, state.criteria.map((name, at) =>
        button("criterion", "", () => { state.at = at; paint(); }, { text: word("by", { criterion: name }), role: "tab", "data-at": at })), el("kbd", {}, "[ ]"));
      const cards = shown.answers.map(card);
      const board = el("div", { class: "board", role: "group", "aria-label": word("board") });
      const hint = el("p", { class: "told" });
      const strengths = state.pairs && el("div", { class: "strengths row", role: "group", "aria-label": word("strength") }, el("span", { class: "soft" }, word("strength")),
        setup.strengths.map(([, text], at) => button("strengthen", at + 1, () => did(R.strengthen(state, at + 1)), { text, "data-strength": at + 1 })));
      const pair = state.pairs && el("div", { class: "pairs row" }, button("better_one", "←", () => did(R.prefer(state, 0)), { text: word("better_one", { letter: "A" }), "data-side": 0 }),
        shown.ties && button("tie", "=", () => did(R.tie(state, 0)), { "data-side": "tie" }), button("better_one", "→", () => did(R.prefer(state, 1)), { text: word("better_one", { letter: "B" }), "data-side": 1 }));
      const extras = el("div", { class: "extras" }, ["comment", "better"].map((field) => {
        const name = field === "better" ? "write" : "comment";
        const box = el("textarea", { rows: 3, maxlength: 20000, placeholder: word(`${name}_hint`), "aria-label": word(name), hidden: true, "data-field": field });
        box.value = state[field];
        box.addEventListener("input", () => { state[field] = box.value; save(); });
        return box;
      }));
      const quiet_buttons = el("div", { class: "row keys" }, button("comment", "C", () => box("comment")), button("write", "W", () => box("better")),
        button("none_acceptable", "N", () => did(R.draw(state, 0)), { "data-none": true }), button("raw", "R", toggle), button("help", "?", help));
      const main = el("div", { class: "row main" }, button("undo", "U", undo, { disabled: !shown.done }), button("skip", "S", () => ask("skip")), button("submit", "↵", submit, { class: "primary" }));
      const reasons = el("div", { class: "row reasons", role: "group", hidden: true }, el("span", {}, word("skip_why")), setup.reasons.map(([key, text], at) => button("reason", at + 1, () => send_label(key), { text })));
      const deck = el("div", { class: "deck" }, hint, reasons, pair, strengths, el("div", { class: "row between" }, board, main));
      const all = el("div", { class: "ranking" }, el("div", { class: "row between top" }, el("div", { class: "row" }, ...bar(), shown.practice ? el("span", { class: "tag practice" }, word("practice")) : null), folded()),
        shown.practice ? el("p", { class: "soft" }, word("practice_note")) : null,
        el("section", { class: "asked-here", "aria-label": word("prompt") }, turns), tabs || null,
        el("div", { class: `answers ${[2, 4].includes(shown.answers.length) ? "n2" : "n3"}`, role: "list", "aria-label": word("board") }, cards), quiet_buttons, extras, deck);
      const made = { all, cards, board, hint, reasons, tabs, pair, strengths, deck };
      for (const text of all.querySelectorAll("[data-text]")) set_text(text);
      return made;
    }

    function card(text, n) {
      const answers = shown.answers.length;
      const ranks = state.pairs ? [] : Array.from({ length: answers }, (_, place) => button("put", "", () => did(R.put(state, n, place + 1)), { text: String(place + 1), "data-n": place + 1, "aria-label": word("ranked", { letter: letter(n), rank: place + 1 }) }));
      const equal = state.pairs || !shown.ties ? null : button("tie", "", () => did(R.tie(state, n)), { text: "=", "aria-label": word("tie") });
      const tools = [state.pairs ? null : el("span", { class: "row" }, ranks, equal), el("span", { class: "row" }, button("acceptable", "A", () => did(R.accept(state, n))), button("flag", "F", () => ask("flags"), { "aria-expanded": "false" }))];
      const flags = el("div", { class: "row flags", role: "group", hidden: true, "aria-label": word("flags_of", { letter: letter(n) }) }, setup.flags.map(([key, said], at) => button("flags", at + 1, () => did(R.flag(state, n, key)), { text: said, "data-flag": key })));
      const made = el("article", { class: "answer card", role: "listitem", tabindex: "0", "aria-posinset": n + 1, "aria-setsize": answers, "data-answer": n },
        el("header", { class: "row" }, el("span", { class: "letter", "data-drag": n, title: word("drag_hint") }, letter(n)), el("span", { class: "place" }), el("span", { class: "unread" }, word("unseen"))),
        el("div", { class: "body" }, el("div", { class: "text", "data-text": text })), button("expand", "E", () => expand(n), { class: "expand", hidden: true }),
        el("div", { class: "marks soft" }), el("div", { class: "row tools" }, tools), flags);
      made.addEventListener("focusin", () => { if (focused !== n) { focused = n; if (mode === "flags") mode = ""; paint(); } glance(); });
      made.addEventListener("pointerdown", (event) => { // buttons in a card leave the focus on the card, so that Enter submits
        if (event.target.closest("button")) { focused = n; made.focus({ preventScroll: true }); }
      });
      made.addEventListener("mousedown", (event) => { if (event.target.closest("button")) event.preventDefault(); });
      for (const one of made.querySelectorAll("button")) one.tabIndex = -1;
      return made;
    }

    function set_text(place) {
      const text = place.dataset.text, rendered = look ? look === "rendered" : !window.dianjing.has_tokens(text);
      place.classList.toggle("raw", !rendered);
      place.replaceChildren(rendered ? window.dianjing.markdown(text) : window.dianjing.raw(text));
    }

    function toggle() {
      const any_raw = parts.all.querySelector("[data-text].raw");
      look = any_raw ? "rendered" : "raw";
      for (const text of parts.all.querySelectorAll("[data-text]")) set_text(text);
      fold();
      tell("", look);
      paint();
    }

    // Long answers are folded: which ones are long is known once they are drawn.
    function fold() {
      parts.cards.forEach((one, n) => {
        const body = one.querySelector(".body");
        const opened = one.classList.contains("open");
        one.classList.remove("lengthy", "open");
        const limit = Number.parseFloat(getComputedStyle(body).lineHeight) * 12.5;
        const long = body.scrollHeight > limit && root.offsetParent !== null;
        one.classList.toggle("lengthy", long);
        one.classList.toggle("open", long && (opened || state.seen[n]));
        one.querySelector(".expand").hidden = !long;
      });
      glance();
    }

    function expand(n) {
      const one = parts.cards[n];
      if (!one.classList.contains("lengthy")) return;
      one.classList.toggle("open");
      if (one.classList.contains("open")) state.seen[n] = true;
      paint();
      one.scrollIntoView({ block: "nearest" });
    }

    // Short answers count as read once all of them has been in view.
    function glance() {
      if (!state || !parts?.cards || document.hidden) return;
      const bottom = parts.deck.getBoundingClientRect().top;
      let changed = false;
      parts.cards.forEach((one, n) => {
        if (state.seen[n] || (one.classList.contains("lengthy") && !one.classList.contains("open"))) return;
        const at = one.querySelector(".body").getBoundingClientRect();
        if (at.height && at.top >= -1 && at.bottom <= bottom + 1) { state.seen[n] = true; changed = true; }
      });
      if (changed) paint();
    }

    function focus(n, still = false) {
      focused = (n + state.count) % state.count;
      const one = parts.cards[focused];
      one.focus({ preventScroll: true });
      if (!still) reveal(one);
      paint();
      glance();
    }

    function reveal(one) {
      const at = one.getBoundingClientRect(), bottom = parts.deck.getBoundingClientRect().top;
      if (at.top < 0 || at.height > bottom) window.scrollBy({ top: at.top - 8 });
      else if (at.bottom > bottom) window.scrollBy({ top: at.bottom - bottom + 8 });
    }

    function did(result) {
      const text = word(result.word, result.values);
      if (!result.hint && !(pending && !pending.failed)) { state.reason = undefined; }
      tell(result.hint ? "hint" : "", null, text);
      if (!result.hint) parts.hint.replaceChildren(); // announced, and plain to see
      paint();
      if (mode === "flags") reveal(parts.cards[focused]);
    }

    function save() {
      if (state && mode !== "feedback") keep("sessionStorage", draft(), state);
    }

    function paint() {
      if (!state || !parts?.cards) return;
      save();
      const ranks = state.ranks[state.at], busy = Boolean(pending && !pending.failed);
      parts.all.classList.toggle("busy", busy);
      parts.cards.forEach((one, n) => {
        const rank = ranks[n], body = one.classList;
        one.setAttribute("aria-label", rank === null ? word("unranked", { letter: letter(n) }) : word("ranked", { letter: letter(n), rank }));
        one.querySelector(".place").textContent = state.pairs ? (rank === null ? "" : R.chosen(state) ? (rank === 1 ? word("better_place") : "") : word("tie")) : rank === null ? word("tray") : rank;
        body.toggle("focused", n === focused);
        body.toggle("placed", rank !== null);
        body.toggle("accepted", state.line !== null && !state.at && rank !== null && rank <= state.line);
        one.querySelector(".unread").hidden = state.seen[n];
        const expander = one.querySelector(".expand");
        expander.firstChild.textContent = word(body.contains("open") ? "collapse" : "expand");
        for (const put of one.querySelectorAll("[data-act=put]")) put.setAttribute("aria-pressed", Number(put.dataset.n) === rank);
        one.querySelector("[data-act=acceptable]").setAttribute("aria-pressed", state.line !== null && rank !== null && rank === state.line);
        const asking = mode === "flags" && n === focused;
        one.querySelector(".flags").hidden = !asking;
        one.querySelector("[data-act=flag]").setAttribute("aria-expanded", asking);
        for (const flag of one.querySelectorAll("[data-flag]")) flag.setAttribute("aria-pressed", state.flags[n].includes(flag.dataset.flag));
        one.querySelector(".marks").replaceChildren(...state.flags[n].map((flag) => el("span", { class: "tag" }, known("flags", flag))));
      });
      for (const tab of root.querySelectorAll("[role=tab]")) {
        tab.setAttribute("aria-selected", Number(tab.dataset.at) === state.at);
        tab.classList.toggle("ready", !R.unranked(state, Number(tab.dataset.at)).length);
      }
      for (const side of root.querySelectorAll("[data-side]")) side.setAttribute("aria-pressed", side.dataset.side === "tie" ? ranks[0] !== null && !R.chosen(state) : R.chosen(state) && ranks[Number(side.dataset.side)] === 1);
      for (const one of root.querySelectorAll("[data-strength]")) { one.setAttribute("aria-pressed", state.strength === Number(one.dataset.strength)); one.disabled = !R.chosen(state, 0); }
      root.querySelector("[data-none]").setAttribute("aria-pressed", state.line === 0);
      for (const area of root.querySelectorAll("[data-field]")) if (state[area.dataset.field]) area.hidden = false;
      root.querySelector(".keys [data-act=raw]").firstChild.textContent = word(parts.all.querySelector("[data-text].raw") ? "rendered" : "raw");
      parts.reasons.hidden = mode !== "skip";
      const send_ = root.querySelector("[data-act=submit]");
      send_.disabled = busy || mode === "feedback";
      send_.setAttribute("aria-busy", busy);
      draw_board(ranks);
    }

    function draw_board(ranks) {
      const chip = (n) => el("span", { class: `chip ${n === focused ? "focused" : ""}`, "data-drag": n }, letter(n));
      const on = (rank) => [...ranks.keys()].filter((n) => ranks[n] === rank).map(chip);
      const handle = (placed) => el("span", { class: `line ${placed ? "" : "loose"}`, "data-drag": "line", title: word("line") }, placed ? "" : `│ ${word("line")}`);
      const places = state.pairs ? [[1, word("better_place")], ...(shown.ties ? [["tie", "="]] : [])] : Array.from({ length: state.count }, (_, at) => [at + 1, String(at + 1)]);
      const here = !state.at && state.line;
      const cells = places.map(([rank, name]) => {
        const inside = state.pairs ? (rank === "tie" ? (ranks[0] !== null && !R.chosen(state) ? [chip(0), chip(1)] : []) : R.chosen(state) ? on(1) : []) : on(rank);
        return [el("span", { class: `cell ${typeof here === "number" && rank <= here ? "accepted" : ""}`, "data-rank": rank }, el("small", {}, name), inside), here === rank ? handle(true) : null];
      });
      const tray = state.pairs ? (ranks[0] === null ? [chip(0), chip(1)] : R.chosen(state) ? on(2) : []) : on(null);
      parts.board.replaceChildren(...[here === 0 ? handle(true) : null, ...cells.flat(), el("span", { class: "cell tray", "data-rank": "0" }, tray, el("small", {}, tray.length ? word("tray") : ""), state.line === null && !state.at ? handle(false) : null)].filter(Boolean));
    }

    // ---- questions

    function ask(what) {
      mode = mode === what ? "" : what;
      tell("", null, "");
      if (mode === "skip") announce(word("skip_why"));
      if (mode === "flags") announce(word("flags_of", { letter: letter(focused) }));
      paint();
      if (mode === "flags") reveal(parts.cards[focused]);
    }

    function box(field) {
      const area = root.querySelector(`[data-field=${field}]`);
      area.hidden = false;
      area.focus({ preventScroll: true });
      reveal(area);
    }

    function help() {
      if (mode === "help") return close();
      const before = mode;
      mode = "help";
      const keys = [["1 … " + (state.pairs ? 4 : state.count), state.pairs ? "key_strength" : "key_digits"], ...(state.pairs ? [["← →", "key_sides"]] : []), ["=", state.pairs ? "key_tie_pair" : "key_tie"],
        [state.pairs ? "↑ ↓ Tab" : "↑ ↓ ← → Tab", "key_move"], ["E", "key_expand"], ["A", "key_line"], ["N", "key_none"], ["F", "key_flag"], ...(state.criteria.length > 1 ? [["[ ]", "key_criteria"]] : []),
        ["C", "comment"], ["W", "write"], ["R", "key_raw"], ["S", "skip"], ["U ⌫", "undo"], ["↵", "key_enter"], ["Esc", "key_escape"]];
      const shut = button("close", "Esc", close, { class: "primary" });
      parts.help = el("div", { class: "help", role: "dialog", "aria-modal": "true", "aria-label": word("help") }, el("div", { class: "card" }, el("h2", {}, word("help")),
        el("dl", {}, keys.flatMap(([key, name]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, word(name))])), el("p", { class: "soft" }, word("drag_hint")), shut));
      parts.help.addEventListener("keydown", (event) => { if (event.key === "Tab") { event.preventDefault(); shut.focus(); } });
      parts.before = before;
      root.append(parts.help);
      shut.focus();
    }

    function close() {
      parts.help?.remove();
      mode = parts.before ?? "";
      focus(focused, true);
    }

    // ---- keys

    function key(event) {
      moved = Date.now();
      if (!setup || !root.isConnected || root.offsetParent === null || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (typing) {
        if (event.key === "Escape" && root.contains(typing)) { event.preventDefault(); typing.blur(); focus(focused, true); }
        return;
      }
      const own = event.target.closest?.("button, a, summary");
      if ((event.key === "Enter" || event.key === " ") && own) return;
      if (event.repeat && !event.key.startsWith("Arrow")) return event.key === "Enter" ? event.preventDefault() : undefined;
      const act = press(event.key);
      if (act) { event.preventDefault(); act(); }
    }

    function press(pressed) {
      const name = pressed.length === 1 ? pressed.toLowerCase() : pressed;
      if (mode === "gate" || mode === "changed") return name === "Enter" && performance.now() > quiet ? parts.enter : name === "Escape" ? parts.escape : null;
      if (mode === "end") return ["u", "Backspace"].includes(name) && shown.done && shown.state !== "closed" ? undo : null;
      if (mode === "feedback") return name === "Enter" ? () => performance.now() > quiet && submit() : null;
      if (!state) return null;
      if (mode === "help") return name === "Escape" || name === "?" ? close : null;
      const digit = /^[0-9]$/.test(name) ? Number(name) : null;
      if (name === "Escape") return mode ? () => { mode = ""; paint(); } : null;
      if (name === "?") return help;
      if (pending && !pending.failed) return () => {}; // what is on its way is not changed
      if (digit !== null) return () => digits(digit);
      const step = { ArrowDown: 1, ArrowUp: -1, ...(state.pairs ? {} : { ArrowRight: 1, ArrowLeft: -1 }) }[name];
      if (step) return () => { if (mode === "flags") mode = ""; focus(focused + step); };
      if (state.pairs && name.startsWith("Arrow")) return () => did(R.prefer(state, name === "ArrowLeft" ? 0 : 1));
      const turn = { "]": 1, "[": -1 }[name];
      if (turn) return state.criteria.length > 1 ? () => { state.at = (state.at + turn + state.criteria.length) % state.criteria.length; announce(word("by", { criterion: state.criteria[state.at] })); paint(); } : null;
      return {
        "=": () => did(R.tie(state, focused)), a: () => did(R.accept(state, focused)), n: () => did(R.draw(state, 0)), f: () => ask("flags"), c: () => box("comment"), w: () => box("better"),
        s: () => ask("skip"), u: undo, Backspace: undo, Enter: submit, e: () => expand(focused), r: toggle,
      }[name];
    }

    function digits(digit) {
      if (mode === "flags") { const flag = setup.flags[digit - 1]; return flag && did(R.flag(state, focused, flag[0])); }
      if (mode === "skip") { const reason = setup.reasons[digit - 1]; if (reason) send_label(reason[0]); return; }
      if (!state.pairs) return did(R.put(state, focused, digit));
      if (digit >= 1 && digit <= setup.strengths.length) did(R.strengthen(state, digit));
    }

    // ---- dragging, by mouse, pen or finger

    function grab(event) {
      const handle = event.target.closest?.("[data-drag]");
      if (!handle || !state || mode === "feedback" || (pending && !pending.failed) || event.button > 0) return;
      const what = handle.dataset.drag, from = [event.clientX, event.clientY];
      let ghost = null, over = null;
      const move = (now) => {
        if (now.pointerId !== event.pointerId) return;
        if (!ghost && Math.hypot(now.clientX - from[0], now.clientY - from[1]) < 6) return;
        ghost ??= document.body.appendChild(el("div", { class: "dj dj-ghost", "aria-hidden": "true" }, what === "line" ? "│" : letter(Number(what))));
        ghost.style.left = `${now.clientX}px`;
        ghost.style.top = `${now.clientY}px`;
        over?.classList.remove("over");
        over = document.elementFromPoint(now.clientX, now.clientY)?.closest(".dj-rank [data-rank]") ?? null;
        over?.classList.add("over");
      };
      const end = (now) => {
        if (now.pointerId !== event.pointerId) return;
        for (const [name, act] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) document.removeEventListener(name, act);
        ghost?.remove();
        over?.classList.remove("over");
        if (!ghost || !over || now.type === "pointercancel") return;
        drop(what, over.dataset.rank);
      };
      if (!event.target.closest(".answer")) event.preventDefault();
      for (const [name, act] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) document.addEventListener(name, act);
    }

    function drop(what, rank) {
      if (what === "line") return state.pairs && rank === "tie" ? null : did(R.draw(state, rank === "0" ? state.line : Number(rank)));
      focus(Number(what), true);
      did(rank === "tie" ? R.tie(state, focused) : R.put(state, focused, rank === "0" ? null : Number(rank)));
    }

    // ---- beginning

    function begin() {
      const value = props.value;
      root.classList.toggle("dj", Boolean(value));
      if (!value || typeof value !== "object") { setup = state = shown = null; root.replaceChildren(); return; }
      if (value.words) { setup = value; show(value.shown); }
      else if (setup) answered(value);
    }

    setInterval(() => {
      const now = Date.now();
      if (state && !document.hidden && mode !== "gate" && now - moved < IDLE) state.active += Math.min(now - ticked, 2000);
      ticked = now;
    }, 1000);
    for (const name of ["pointermove", "pointerdown", "wheel", "touchstart"]) document.addEventListener(name, () => { moved = Date.now(); }, { passive: true });
    document.addEventListener("scroll", () => requestAnimationFrame(glance), { passive: true, capture: true });
    window.addEventListener("resize", () => { if (state && parts?.cards) fold(); });
    window.addEventListener("offline", fail);
    window.addEventListener("pagehide", save);
    document.addEventListener("keydown", key);
    root.addEventListener("click", (event) => { // what is on its way, or was submitted, is not changed
      const act = event.target.closest("button")?.dataset.act;
      if (act && ((pending && !pending.failed) || (mode === "feedback" && act !== "go_on"))) { event.stopPropagation(); event.preventDefault(); }
    }, true);
    root.addEventListener("pointerdown", grab);
    begin();
    watch("value", begin);
  }

  window.dianjing = { ...(window.dianjing ?? {}), rank };
})();
