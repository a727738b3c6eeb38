// Lines over steps. Points stay here; a payload either brings everything (after: null) or what follows row `after`.
(() => {
  const css = (name) => getComputedStyle(document.body).getPropertyValue(name).trim(); // .dark is on the body

  // A step written again, after a resume, replaces what followed it.
  function append(kept, added) {
    for (const point of added) {
      while (kept.length && kept[kept.length - 1][0] >= point[0]) kept.pop();
      kept.push(point);
    }
  }

  function traces(state) {
    const made = [];
    for (const line of state.lines) {
      const points = state.points[line.series] ?? [];
      const axis = line.panel ? `y${line.panel + 1}` : "y";
      const x = points.map((p) => p[0]);
      const banded = points.filter((p) => p.length > 3); // [x, y, low, high]
      if (banded.length) {
        made.push({
          x: [...banded.map((p) => p[0]), ...banded.map((p) => p[0]).reverse()], y: [...banded.map((p) => p[3]), ...banded.map((p) => p[2]).reverse()],
          yaxis: axis, type: "scatter", mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: line.colour, opacity: 0.07, hoverinfo: "skip", showlegend: false, band: true,
        });
      }
      const noise = (state.noise ?? {})[line.series]; // [low, high]: how far it moves by itself
      if (noise && points.length) {
        made.push({
          x: [x[0], x.at(-1), x.at(-1), x[0]], y: [noise[0], noise[0], noise[1], noise[1]], yaxis: axis, type: "scatter", mode: "lines", line: { width: 0 },
          fill: "toself", fillcolor: "rgba(0,0,0,0)", fillpattern: { shape: "/", fgcolor: css("--dj-soft"), size: 7, solidity: 0.12 }, hoverinfo: "skip", showlegend: false, band: true,
        });
      }
      const marker = { color: line.colour, symbol: line.marker, size: 7 };
      made.push({
        x, y: points.map((p) => p[1]), name: line.label, yaxis: axis, type: "scatter", connectgaps: false,
        mode: line.sparse || points.length < 3 ? "lines+markers" : "lines", marker, line: { color: line.colour, width: 1.8, dash: line.dash },
        hovertemplate: `%{y:.4g}<extra>${line.label.replace(/[<>&]/g, " ")}</extra>`, showlegend: false,
      });
      const gaps = points.filter((p) => p[1] === null);
      if (gaps.length) {
        const known = points.map((p) => p[1]).filter((v) => v !== null);
        const at = known.length ? Math.max(...known) : 0;
        made.push({
          x: gaps.map((p) => p[0]), y: gaps.map(() => at), name: state.words.gap, yaxis: axis, type: "scatter", mode: "markers",
          marker: { symbol: "x-thin", size: 9, line: { width: 2, color: css("--dj-lost") } }, showlegend: false,
          hovertemplate: `${state.words.gap}<extra></extra>`,
        });
      }
    }
    return made;
  }

  function layout(state, width) {
    const panels = 1 + Math.max(0, ...state.lines.map((line) => line.panel));
    const headed = state.lines.some((line) => line.heading); // panels of several lines each: their names stand at their ends
    const soft = css("--dj-soft"), grid = css("--dj-line");
    const made = {
      uirevision: "constant", margin: { l: 52, r: width < 500 ? 12 : headed ? (panels > 2 ? 188 : 160) : 116, t: panels > 1 ? 24 : 8, b: 36 }, hovermode: "x unified", height: headed && panels === 2 ? 560 : panels > 1 ? (headed ? 190 : 130) * panels + 50 : 300,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "ui-sans-serif, system-ui, sans-serif", size: 12, color: soft },
      hoverlabel: { bgcolor: css("--dj-card"), bordercolor: grid, font: { color: css("--dj-ink") } },
      xaxis: { showgrid: false, zeroline: false, linecolor: grid, title: { text: state.words.step, standoff: 6 }, anchor: panels > 1 ? `y${panels}` : "y" },
      annotations: [],
    };
    for (let panel = 0; panel < panels; panel++) {
      const share = headed ? 0.82 : 0.86; // of its height that a panel's lines have; the rest is its name's
      const domain = headed && panels === 2 ? [[0.66, 1], [0, 0.56]][panel] : [1 - (panel + share) / panels, 1 - panel / panels];
      const axis = { gridcolor: grid, zeroline: false, domain, automargin: true, nticks: panels > 1 && !headed ? 3 : 6 };
      if (panels === 1) delete axis.domain;
      const titled = state.lines.find((line) => line.panel === panel);
      if (panels > 1 && titled) made.annotations.push({ text: titled.heading || titled.label, showarrow: false, xref: "paper", x: 0, xanchor: "left", yref: "paper", y: domain[1], yanchor: "bottom", font: { size: 12, color: soft } });
      made[panel ? `yaxis${panel + 1}` : "yaxis"] = axis;
    }
    made.shapes = [
      ...(state.marks ?? []).map(([x]) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: soft, width: 1 } })),
      ...state.lines.filter((line) => line.series in (state.floors ?? {})).map((line) => ({
        type: "line", xref: "paper", x0: 0, x1: 1, y0: state.floors[line.series], y1: state.floors[line.series], line: { color: line.colour, width: 1, dash: "dot" }, opacity: 0.5,
      })),
    ];
    for (const [x, name] of state.marks ?? []) made.annotations.push({ text: name.replace(/[<>&]/g, " ").slice(0, 22), x, xanchor: "left", yref: "paper", y: 1, yanchor: "bottom", showarrow: false, font: { size: 11, color: soft } });
    if ((state.marks ?? []).length || state.png) made.margin.t = 30;
    made.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: css("--dj-ink") };
    if (width >= 500) for (let panel = 0; panel < panels && (panels === 1 || headed); panel++) label_ends(state, made, panel, panels === 1 ? 230 : panels > 2 ? 150 : panel ? 265 : 160);
    if ((panels === 1 || headed) && width < 500) {
      made.showlegend = true;
      made.legend = headed ? { orientation: "h", y: -0.14, yanchor: "top" } : { orientation: "h", y: 1.12 };
      if (headed) made.height += 22 * state.lines.length;
    }
    return made;
  }

  // Names stand at the ends of their lines, pushed apart where they would meet.
  function label_ends(state, made, panel, height) {
    const lines = state.lines.filter((line) => line.panel === panel);
    const ends = lines.map((line) => [line, (state.points[line.series] ?? []).filter((p) => p[1] !== null).at(-1)]).filter(([, end]) => end);
    const values = ends.map(([, end]) => end[1]);
    ends.sort((a, b) => b[1][1] - a[1][1]);
    let last = Infinity;
    const all = lines.flatMap((line) => (state.points[line.series] ?? []).map((p) => p[1])).filter((v) => v !== null);
    const span = (Math.max(...all) - Math.min(...all)) || Math.abs(values[0]) || 1;
    for (const [line, end] of ends) {
      const pixels = (end[1] / span) * height;
      const shift = last - pixels < 15 ? last - 15 - pixels : 0;
      last = pixels + shift;
      made.annotations.push({ text: `<span style="color:${line.colour}">●</span> ${line.label.replace(/[<>&]/g, " ").slice(0, line.heading ? 24 : 16)}`, x: 1, xref: "paper", xanchor: "left", xshift: 6, yref: panel ? `y${panel + 1}` : "y", y: end[1], yshift: shift, showarrow: false, font: { color: css("--dj-ink"), size: 12 } });
    }
  }

  function chart(element, props, watch, resync) {
    const target = element.querySelector(".dj-chart");
    let state = null;
    const draw = () => {
      const wide = target.clientWidth || 600;
      const made = traces(state);
      if (wide < 500) made.forEach((trace) => { trace.showlegend = trace.mode !== "markers" && !trace.band; });
      window.Plotly.react(target, made, layout(state, wide), { displayModeBar: Boolean(state.png), displaylogo: false, modeBarButtons: [["toImage"]], toImageButtonOptions: { filename: "forgetting" }, responsive: true });
    };
    const take = () => {
      const value = props.value;
      if (!value || !value.points) { if (state) { window.Plotly.purge(target); state = null; } return; }
      if (value.after === null) state = { lines: value.lines, points: value.points, cursor: value.cursor, words: value.words, marks: value.marks, floors: value.floors, noise: value.noise, png: value.png };
      else if (!state || value.after !== state.cursor) return resync();
      else {
        for (const [name, added] of Object.entries(value.points)) append(state.points[name] ??= [], added);
        state.cursor = value.cursor;
      }
      if (state.lines.length) draw();
    };
    take();
    watch("value", take);
    new MutationObserver(() => state && state.lines.length && draw()).observe(document.body, { attributeFilter: ["class"] });
  }

  window.dianjing = { ...(window.dianjing ?? {}), chart };
})();
