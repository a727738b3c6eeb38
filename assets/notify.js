// Tells of a run's end, once, in the browser where somebody asked for it: by a notification, or by the tab's title where
// there are none (plain http from another machine, or not allowed). Permission is asked for on that click and never before.
// What is asked for stands in localStorage. Several tabs may see the end: the one that takes it from there tells it.
(() => {
  const place = (run) => `dianjing.tell ${run}`;
  const wanted = (run) => localStorage.getItem(place(run)) !== null;
  const allowed = () => "Notification" in window && Notification.permission === "granted";
  const alone = (act) => navigator.locks ? navigator.locks.request("dianjing.tell", act) : act();

  function show(button) {
    const on = wanted(button.dj.a.data.run);
    button.setAttribute("aria-pressed", on);
    button.parentElement.classList.toggle("on", on);
    button.parentElement.classList.toggle("quiet", on && !allowed());
  }

  async function tell(button) {
    const run = button.dj.a.data.run;
    if (wanted(run)) localStorage.removeItem(place(run));
    else {
      localStorage.setItem(place(run), "");
      if ("Notification" in window && Notification.permission === "default") await Notification.requestPermission();
    }
    show(button);
  }

  function say({ run, title, body, href }) {
    try {
      if (!allowed()) throw new TypeError("not allowed");
      const note = new Notification(title, { body, tag: place(run) });
      note.onclick = () => {
        window.focus();
        note.close();
        if (location.pathname + location.search !== href) location.assign(href);
      };
    } catch { document.title = title; } // on a telephone the constructor itself refuses
  }

  // Called after every drawing. Gradio's timer rests in a hidden tab, where the end matters most: there we look ourselves.
  function told(root, act) {
    const buttons = [...root.querySelectorAll(".tell button")];
    buttons.forEach(show);
    for (const state of root.querySelectorAll(".state")) {
      const ended = state.dj.a.data?.ended;
      if (ended && wanted(ended.run)) {
        alone(() => {
          if (!wanted(ended.run)) return;
          localStorage.removeItem(place(ended.run));
          say(ended);
        });
      }
    }
    clearTimeout(root.looking);
    if (buttons.length) root.looking = setTimeout(look, 5000, root, act);
  }

  function look(root, act) {
    const button = root.isConnected && root.querySelector(".tell button");
    if (!button) return;
    if (document.hidden && wanted(button.dj.a.data.run)) act({ name: "look" });
    root.looking = setTimeout(look, 5000, root, act);
  }

  window.addEventListener("storage", () => document.querySelectorAll(".dj .tell button").forEach(show)); // another tab's click
  window.dianjing = { ...(window.dianjing ?? {}), tell, told };
})();
