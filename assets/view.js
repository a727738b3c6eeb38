// Draws trees of {t: tag, a: attributes, c: children, on: action, k: key} with textContent only: a text can never become
// markup or script. What did not change keeps its DOM nodes, and with them focus, scroll and opened details.
(() => {
  const TAGS = new Set(("div span p a b i em strong small code pre h1 h2 h3 ul ol li table thead tbody tr th td button input select option " +
    "label details summary section header footer progress img ins del mark hr textarea article nav").split(" "));
  const ATTRIBUTES = new Set(("class href title role id type value min max step placeholder open checked disabled selected for alt src width " +
    "height colspan download rows tabindex name list target").split(" "));
  const PLACES = ["at", "from", "to"]; // shares of a width, 0 to 1: CSS draws bars and intervals with them
  const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u061c\u115f\u1160\u180e\u3164\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

  const safe = (address) => /^(https?:\/\/|\/(?![\/\\])|\?|#)[^\t\n\r]*$/.test(String(address)); // browsers drop tabs and line ends
  const pressed = new Set(); // buttons whose answer is not here yet

  function attribute(element, name, value) {
    if (PLACES.includes(name) && Number.isFinite(Number(value))) return element.style.setProperty(`--${name}`, Number(value));
    if (name === "data" || !(ATTRIBUTES.has(name) || /^aria-[a-z]+$/.test(name))) return;
    if ((name === "href" || name === "src") && !(safe(value) && (name === "href" || /^\//.test(value)))) return; // no picture from elsewhere
    if (name === "value" && "value" in element && element.tagName !== "PROGRESS") {
      if (document.activeElement !== element) element.value = value;
    } else element.setAttribute(name, value === true ? "" : String(value));
  }

  function build(node, act) {
    if (typeof node === "string") return text(node);
    const element = document.createElement(TAGS.has(node.t) ? node.t : "span");
    element.dj = node;
    for (const child of node.c) element.appendChild(build(child, act));
    for (const [name, value] of Object.entries(node.a)) attribute(element, name, value);
    if (node.on) listen(element, act);
    return element;
  }

  // Characters that show nothing, or turn the rest around, are shown by their code: what a model wrote is all there to see.
  function text(written) {
    if (!written.match(HIDDEN)) return document.createTextNode(written);
    const whole = document.createElement("span");
    let from = 0;
    for (const found of written.matchAll(HIDDEN)) {
      whole.append(written.slice(from, found.index));
      const shown = document.createElement("span");
      shown.className = "invisible";
      shown.textContent = "U+" + found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      whole.append(shown);
      from = found.index + found[0].length;
    }
    whole.append(written.slice(from));
    return whole;
  }

  function listen(element, act) {
    const input = ["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName);
    element.addEventListener(input ? (element.type === "range" ? "input" : "change") : "click", (event) => {
      const node = element.dj;
      const data = node.a.data ?? {};
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a link in a tab of its own
      if (!input) event.preventDefault();
      if (element.tagName === "A" && /^[/?]/.test(node.a.href ?? "")) history.replaceState(null, "", node.a.href);
      if (node.on === "copy") return copy(element, /^[/?]/.test(data.text) ? new URL(data.text, location.href).href : data.text);
      if (node.on === "tell") return window.dianjing.tell(element);
      if (data.confirm && !window.confirm(data.confirm)) return;
      if (!input && pressed.has(element)) return;
      if (!input) { pressed.add(element); element.ariaBusy = "true"; setTimeout(release, 1500, element); }
      const typed = data.form ? { typed: Object.fromEntries([...element.closest(".typed").querySelectorAll("[name]")].map((one) => [one.name, one.value])) } : {};
      act({ ...data, ...typed, name: node.on, ...(input ? { value: element.type === "checkbox" ? element.checked : element.value } : {}) });
    });
  }

  function release(element) {
    pressed.delete(element);
    element.ariaBusy = null;
  }

  async function copy(element, text) {
    try { await navigator.clipboard.writeText(text); }
    catch { // no clipboard on plain http from another machine
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    element.classList.add("copied");
    setTimeout(() => element.classList.remove("copied"), 1200);
  }

  const same = (one, two) => JSON.stringify(one) === JSON.stringify(two);

  function patch(parent, children, old, act) {
    children.forEach((node, place) => {
      const element = parent.childNodes[place];
      const before = old[place];
      if (element === undefined) parent.appendChild(build(node, act));
      else if (same(before, node)) return;
      else if (typeof node !== "string" && typeof before === "object" && before.t === node.t && before.k === node.k && before.on === node.on) {
        for (const name of Object.keys(before.a)) if (!(name in node.a) && name !== "open") element.removeAttribute(name);
        for (const [name, value] of Object.entries(node.a)) if (!same(before.a[name], value)) attribute(element, name, value);
        if (element.tagName === "INPUT" && before.a.data?.fresh !== node.a.data?.fresh) element.value = ""; // what was typed was taken
        element.dj = node;
        patch(element, node.c, before.c, act);
      } else element.replaceWith(build(node, act));
    });
    while (parent.childNodes.length > children.length) parent.lastChild.remove();
  }

  function view(element, props, watch, act) {
    const root = element.querySelector(".dj");
    let drawn = [];
    const draw = () => {
      const value = props.value;
      if (value && value.t === "go") { if (safe(value.a.href)) window.location.assign(value.a.href); return; }
      const given = value === null || value === undefined || value === "" ? [] : Array.isArray(value) ? value : [value];
      const here = given.find((node) => node.t === "here"); // the address of what is shown
      if (here && safe(here.a.href)) history.replaceState(null, "", here.a.href);
      const tree = given.filter((node) => node !== here);
      const followed = [...root.querySelectorAll(".log")].filter((log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 4);
      patch(root, tree, drawn, act);
      pressed.forEach(release);
      if (!drawn.length) followed.push(...root.querySelectorAll(".log"));
      for (const log of followed) log.scrollTop = log.scrollHeight; // a log is read at its end, unless somebody scrolled up
      drawn = tree;
      window.dianjing.told?.(root, act);
    };
    draw();
    watch("value", draw);
    document.addEventListener("keydown", (event) => { // keys printed on buttons
      if (!root.isConnected || root.offsetParent === null || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
      const button = [...root.querySelectorAll("button")].find((one) => one.dj?.a.data?.press === event.key && !one.disabled);
      if (button) { event.preventDefault(); button.click(); }
    });
  }

  window.dianjing = { ...(window.dianjing ?? {}), view, text };
})();
