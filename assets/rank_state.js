// What a rater has said of an item so far. Keys, clicks and drags all call these functions and nothing else; each changes
// the state and returns what to tell: [word, values], with `hint: true` where nothing was done.
(() => {
  const LETTERS = "ABCDEFGHI";
  const hint = (word, values = {}) => ({ hint: true, word, values });
  const told = (word, values = {}) => ({ word, values });
  const number = () => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16).padStart(8, "0")).join(""); // randomUUID needs https
  const letters = (numbers) => numbers.map((n) => LETTERS[n]).join(", ");

  function fresh(shown) {
    const count = shown.answers.length;
    return {
      item: shown.item, count, pairs: shown.mode === "pairs", ties: shown.ties, criteria: shown.criteria, at: 0,
      ranks: shown.criteria.map(() => Array(count).fill(null)), line: null, strength: null, flags: Array.from({ length: count }, () => []),
      comment: "", better: "", seen: Array(count).fill(false), active: 0, since: Date.now(), sent: [], content: "",
    };
  }

  // A ranking that was taken back, as it was.
  function restore(state, previous) {
    state.criteria.forEach((name, at) => (previous.tiers[name] ?? []).forEach((tier, place) => tier.forEach((n) => { state.ranks[at][n] = place + 1; })));
    for (const [n, words] of Object.entries(previous.flags ?? {})) state.flags[n] = [...words];
    const { accepted_above, strength, better, comment } = previous;
    Object.assign(state, { line: accepted_above ?? null, strength: strength ?? null, better: better ?? "", comment: comment ?? "" });
    if (Object.keys(previous.tiers).length) state.seen.fill(true);
  }

  const unranked = (state, at = state.at) => [...state.ranks[at].keys()].filter((n) => state.ranks[at][n] === null);

  function put(state, answer, rank) {
    const ranks = state.ranks[state.at];
    if (state.pairs) return rank === null ? clear(state) : prefer(state, rank === 1 ? answer : 1 - answer);
    if (rank !== null && !(rank >= 1 && rank <= state.count)) return hint("no_such_rank", { rank, of: state.count });
    const other = state.ties || rank === null ? -1 : ranks.findIndex((held, n) => held === rank && n !== answer);
    if (other >= 0) ranks[other] = ranks[answer];
    ranks[answer] = rank;
    const left = unranked(state).length;
    if (rank === null) return told("unranked", { letter: LETTERS[answer] });
    return told(other >= 0 && ranks[other] !== null ? "says_moved" : "says_rank", { letter: LETTERS[answer], other: LETTERS[other], rank, left });
  }

  function clear(state) {
    state.ranks[state.at].fill(null);
    if (state.at === 0) state.strength = null;
    return told("unranked", { letter: "A, B" });
  }

  function prefer(state, answer) {
    state.ranks[state.at] = answer === 0 ? [1, 2] : [2, 1];
    return told("says_better", { letter: LETTERS[answer], left: state.at || state.strength ? "" : null });
  }

  function tie(state, answer) {
    const ranks = state.ranks[state.at];
    if (!state.ties) return hint("no_ties");
    if (state.pairs) {
      ranks.fill(1);
      if (state.at === 0) state.strength = null;
      return told("says_tie");
    }
    const own = ranks[answer] ?? Infinity;
    const above = Math.max(...ranks.filter((rank, n) => n !== answer && rank !== null && rank < own));
    return Number.isFinite(above) ? put(state, answer, above) : hint("nothing_above");
  }

  const chosen = (state, at = state.at) => state.pairs && state.ranks[at][0] !== null && state.ranks[at][0] !== state.ranks[at][1];

  function strengthen(state, strength) {
    if (!chosen(state, 0)) return hint("missing_choice", { criterion: state.criteria[0] });
    state.strength = strength;
    return told("says_strength", { strength });
  }

  // The line stands below a rank of the first criterion; 0: above all of them.
  function draw(state, rank) {
    if (state.at) return hint("line_elsewhere", { criterion: state.criteria[0] });
    state.line = state.line === rank ? null : rank;
    if (state.line === null) return told("says_line_off");
    if (!state.line) return told("says_line_none");
    return told("says_line", { letter: letters([...state.ranks[0].keys()].filter((n) => state.ranks[0][n] === rank)) || rank });
  }

  function accept(state, answer) {
    if (!state.at && state.ranks[0][answer] === null) return hint("rank_first");
    return draw(state, state.ranks[0][answer]);
  }

  function flag(state, answer, word) {
    const flags = state.flags[answer];
    const on = !flags.includes(word);
    if (on) flags.push(word);
    else flags.splice(flags.indexOf(word), 1);
    return told(on ? "says_flag_on" : "says_flag_off", { letter: LETTERS[answer], flag: word });
  }

  function tiers(ranks) {
    const slots = [...new Set(ranks)].sort((one, two) => one - two);
    return slots.map((slot) => [...ranks.keys()].filter((n) => ranks[n] === slot));
  }

  // What keeps this from being submitted: hints, and the answer to go to.
  function missing(state) {
    const found = [];
    state.criteria.forEach((criterion, at) => {
      const left = unranked(state, at);
      if (left.length) found.push({ ...hint(state.pairs ? "missing_choice" : "missing_ranks", { criterion, letters: letters(left) }), go: left[0], at });
    });
    if (chosen(state, 0) && !state.strength) found.push({ ...hint("missing_strength"), at: 0 });
    const unseen = [...state.seen.keys()].filter((n) => !state.seen[n]);
    if (unseen.length) found.push({ ...hint("missing_seen", { letters: letters(unseen) }), go: unseen[0] });
    return found;
  }

  // What engine/labelling.py wants to be told. The same sent again has the same id; what was changed since has another and
  // names those before, for any of them may have arrived.
  function said(state, guideline, reason) {
    const label = content(state, reason), text = JSON.stringify(label);
    if (state.content !== text) Object.assign(state, { content: text, sent: [...state.sent, number()].slice(-100) });
    const wall = Math.min(Math.max(0, Date.now() - state.since), 2 ** 31 - 1);
    return { ...label, client_event_id: state.sent.at(-1), corrects: state.sent.slice(0, -1), guideline, active_ms: Math.min(Math.round(state.active), wall), wall_ms: wall };
  }

  function content(state, reason) {
    const base = { item: state.item, comment: state.comment };
    if (reason) return { ...base, reason };
    const flags = Object.fromEntries(state.flags.map((words, n) => [n, words]).filter(([, words]) => words.length));
    const above = state.line === null ? null : tiers(state.ranks[0]).filter(([first]) => state.ranks[0][first] <= state.line).length;
    return {
      ...base, tiers: Object.fromEntries(state.criteria.map((name, at) => [name, tiers(state.ranks[at])])), accepted_above: above,
      strength: state.strength, flags, better: state.better, seen: [...state.seen.keys()].filter((n) => state.seen[n]),
    };
  }

  window.dianjing = { ...(window.dianjing ?? {}), rank_state: { LETTERS, number, fresh, restore, unranked, put, prefer, tie, chosen, strengthen, draw, accept, flag, tiers, missing, said } };
})();
