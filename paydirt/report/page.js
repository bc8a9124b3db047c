// The page's own script: the legend, dark and light, and the table of examples. It reads what is embedded, asks nobody, and
// writes text from data as text.
(() => {
  "use strict";
  const by = (id) => document.getElementById(id);
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // ---- dark and light ------------------------------------------------------------------------------------------------
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  by("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });

  // ---- one legend for every picture ----------------------------------------------------------------------------------
  const picked = new Set();
  const drawn = [...document.querySelectorAll("[data-method]")].filter((node) => !node.matches("button"));
  const buttons = [...document.querySelectorAll("#legend button[data-method]")];
  const legend = document.querySelector("#legend"); // it stays in sight, in as many lines as it takes: headings keep clear
  const clear = () => legend && document.documentElement.style.setProperty("--legend", `${legend.offsetHeight}px`);
  clear();
  addEventListener("resize", clear);
  const show = () => {
    for (const node of drawn) node.classList.toggle("dim", picked.size > 0 && !picked.has(node.dataset.method));
    for (const button of buttons) button.setAttribute("aria-pressed", String(picked.has(button.dataset.method)));
    by("legend-all").hidden = picked.size === 0;
  };
  for (const button of buttons) button.addEventListener("click", () => {
    const name = button.dataset.method;
    if (!picked.delete(name)) picked.add(name);
    show();
  });
  by("legend-all").addEventListener("click", () => { picked.clear(); show(); });

  // ---- copying a command ---------------------------------------------------------------------------------------------
  for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "selected";
    }
  });

  // ---- the table of examples -----------------------------------------------------------------------------------------
  const held = by("browse-data");
  if (!held) return;
  const data = JSON.parse(held.textContent);
  const PAGE = 25;
  const state = { task: 0, method: -1, status: "chosen", source: -1, query: "", column: "rank", down: false, page: 0 };
  const words = data.rows.map((row) => (row[0] + "\n" + row[3].map((turn) => turn[1]).join("\n")).toLowerCase());
  const number = (value) => value === null ? "–" : Number(value.toPrecision(4)).toString();
  const task = () => data.tasks[state.task];
  const method = () => task().methods[state.method];

  const fill = (select, names) => {
    select.replaceChildren(...names.map(([value, text]) => {
      const option = make("option", "", text);
      option.value = value;
      return option;
    }));
  };
  const fillMethods = () => {
    fill(by("browse-method"), task().methods.map((one, i) => [i, one.name]));
    const first = task().methods.findIndex((one) => one.style !== "control");
    if (!task().methods[state.method]) state.method = Math.max(0, first);
    by("browse-method").value = state.method;
  };

  const wanted = () => {
    const ranks = method().rank, scores = method().score, asked = state.query.toLowerCase().split(/\s+/).filter(Boolean);
    const any = (i) => task().methods.some((one) => one.rank[i]);
    const found = [];
    for (let i = 0; i < data.rows.length; i++) {
      if (state.status === "chosen" && !ranks[i]) continue;
      if (state.status === "rejected" && ranks[i]) continue;
      if (state.status === "others" && (ranks[i] || !any(i))) continue;
      if (state.status === "nobody" && any(i)) continue;
      if (state.source >= 0 && data.rows[i][1] !== state.source) continue;
      if (!asked.every((word) => words[i].includes(word))) continue;
      found.push(i);
    }
    const sign = state.down ? -1 : 1;
    const key = {
      rank: (i) => ranks[i] || Infinity,
      score: (i) => scores[i] === null ? -Infinity : scores[i],
      length: (i) => data.rows[i][2],
      source: (i) => data.sources[data.rows[i][1]],
    }[state.column];
    const order = (a, b) => { const x = key(a), y = key(b); return x < y ? -sign : x > y ? sign : a - b; };
    return found.sort(order);
  };

  const turns = (parts) => {
    const box = make("div", "turns");
    for (const [role, text] of parts) {
      const line = make("div", "turn");
      const words = make("div", "text", text);
      words.dir = "auto";
      line.append(make("span", "role", role), words);
      box.append(line);
    }
    return box;
  };

  const details = (i) => {
    const row = data.rows[i], box = make("div", "full");
    box.append(turns(row[3]));
    if (row[4]) box.append(make("p", "faint", `${row[4]} more characters are not on this page`));
    const scroll = make("div", "scroll"), table = make("table", "numbers");
    const head = make("tr");
    for (const name of ["method", "score", "rank", "most like"]) head.append(make("th", "", name));
    const top = make("thead");
    top.append(head);
    const body = make("tbody");
    for (const one of task().methods) {
      const line = make("tr"), name = make("th");
      name.scope = "row";
      name.innerHTML = one.swatch; // our own drawing, made of numbers
      name.append(one.name);
      line.append(name, make("td", "n", number(one.score[i])));
      line.append(make("td", "n", one.rank[i] ? String(one.rank[i]) : "not chosen"));
      const cell = make("td");
      for (const [place, value] of one.nearest[i] || []) {
        const [id, subtask, whole, parts] = task().references[place];
        const fold = make("details", "match");
        fold.append(make("summary", "", `${whole ? "subtask " + subtask : id + " (" + subtask + ")"}: ${number(value)}`));
        if (whole && parts.length) fold.append(make("p", "faint", "Compared with the subtask as a whole; one reference of it:"));
        fold.append(parts.length ? turns(parts) : make("p", "faint", "The target's files are gone, so no text can be shown."));
        cell.append(fold);
      }
      if (!cell.childNodes.length) cell.append(make("span", "faint", "compares with no reference"));
      line.append(cell);
      body.append(line);
    }
    table.append(top, body);
    scroll.append(table);
    box.append(scroll);
    return box;
  };

  const draw = () => {
    const found = wanted(), pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const body = by("browse-rows");
    body.replaceChildren();
    for (const i of found.slice(state.page * PAGE, (state.page + 1) * PAGE)) {
      const row = data.rows[i], line = make("tr", method().rank[i] ? "is-chosen" : "is-rejected");
      const opener = make("button", "opener");
      opener.type = "button";
      opener.setAttribute("aria-expanded", "false");
      const text = row[3].map((turn) => turn[1]).join(" · ").slice(0, 240);
      const snippet = make("span", "snippet", text || row[0]);
      snippet.dir = "auto";
      opener.append(snippet, make("span", "id", row[0]));
      const cell = make("td", "what");
      cell.append(opener);
      line.append(make("td", "n rank", method().rank[i] ? String(method().rank[i]) : "–"));
      line.append(cell, make("td", "source", data.sources[row[1]] || "(no source)"));
      line.append(make("td", "n length", String(row[2])), make("td", "n", number(method().score[i])));
      opener.addEventListener("click", () => {
        const isOpen = opener.getAttribute("aria-expanded") === "true";
        opener.setAttribute("aria-expanded", String(!isOpen));
        if (isOpen) { line.nextSibling.remove(); return; }
        const under = make("tr", "opened"), wide = make("td");
        wide.colSpan = [...document.querySelectorAll("#browse-table > thead th")].filter((head) => head.offsetWidth > 0).length;
        wide.append(details(i));
        under.append(wide);
        line.after(under);
      });
      body.append(line);
    }
    by("browse-count").textContent = `${found.length} of ${data.rows.length} examples`;
    by("browse-page").textContent = `page ${state.page + 1} of ${pages}`;
    by("browse-back").disabled = state.page === 0;
    by("browse-next").disabled = state.page >= pages - 1;
    for (const head of document.querySelectorAll("#browse-table th[data-column]")) {
      const on = head.dataset.column === state.column;
      head.setAttribute("aria-sort", on ? (state.down ? "descending" : "ascending") : "none");
    }
  };

  const listen = (id, name, change) => by(id).addEventListener(name, (event) => {
    change(event.target.value);
    state.page = 0;
    draw();
  });
  fill(by("browse-task"), data.tasks.map((one, i) => [i, one.title]));
  by("browse-task").closest("label").hidden = data.tasks.length < 2;
  fillMethods();
  fill(by("browse-source"), [[-1, "every source"], ...data.sources.map((name, i) => [i, name || "(no source)"])]);
  listen("browse-task", "change", (value) => { state.task = Number(value); fillMethods(); });
  listen("browse-method", "change", (value) => { state.method = Number(value); });
  listen("browse-status", "change", (value) => {
    state.status = value;
    [state.column, state.down] = value === "chosen" ? ["rank", false] : ["score", true];
  });
  listen("browse-source", "change", (value) => { state.source = Number(value); });
  listen("browse-search", "input", (value) => { state.query = value; });
  for (const head of document.querySelectorAll("#browse-table th[data-column] button")) head.addEventListener("click", () => {
    const column = head.parentNode.dataset.column;
    [state.column, state.down] = [column, state.column === column ? !state.down : column === "score"];
    state.page = 0;
    draw();
  });
  by("browse-back").addEventListener("click", () => { state.page -= 1; draw(); });
  by("browse-next").addEventListener("click", () => { state.page += 1; draw(); });
  by("browse-app").hidden = false;
  draw();
})();
