"use strict";
(() => {
  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };

  // The value that is nearest to the pointer, under the picture that it is in.
  for (const svg of document.querySelectorAll("svg[data-points]")) {
    const points = JSON.parse(svg.dataset.points);
    const caption = svg.parentElement.appendChild(element("figcaption", "\u00a0"));
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const place = (event.clientX - box.left) / box.width;
      const near = (point) => Math.abs(point[0] - place);
      const best = points.reduce((one, other) => (near(other) < near(one) ? other : one));
      caption.textContent = points.filter((point) => point[0] === best[0]).map((point) => point[1]).join(" · ");
    });
    svg.addEventListener("pointerleave", () => { caption.textContent = "\u00a0"; });
  }

  const root = document.getElementById("browser");
  if (!root) return;
  const steps = JSON.parse(document.getElementById("steps").textContent);
  const waiting = new Map();
  window.polarisStep = (key, lines) => waiting.get(key)(lines.split("\n"));

  async function unpack(line) {
    const bytes = Uint8Array.from(atob(line), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function load(entry) {
    const key = `${entry.stage}/${entry.step}`;
    if (entry.where === "page") {
      const pack = [...document.querySelectorAll("script[data-step]")].find((each) => each.dataset.step === key);
      return Promise.resolve(pack.textContent.split("\n"));
    }
    if (!entry.where) {
      return Promise.reject(new Error(`left out for its size: polaris report RUN --step ${entry.stage}:${entry.step}`));
    }
    return new Promise((resolve, reject) => {
      const script = element("script");
      const end = (answer, value) => { script.remove(); waiting.delete(key); answer(value); };
      waiting.set(key, (lines) => end(resolve, lines));
      script.onerror = () => end(reject, new Error(`${entry.where} is not beside this page`));
      script.src = entry.where.split("/").map(encodeURIComponent).join("/");
      document.head.append(script);
    });
  }

  function choice(label, options, change) {
    const frame = element("label", `${label} `);
    const made = frame.appendChild(element("select"));
    for (const [value, text] of options) made.append(new Option(text, value));
    made.addEventListener("change", () => change(made.value));
    return frame;
  }

  const bar = root.appendChild(element("div", undefined, "bar"));
  const list = root.appendChild(element("div"));
  let shown = { groups: [], lines: [] };
  let filter = "";
  let turn = 0;

  const plain = (outcome) => outcome.replaceAll("_", " ");
  const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(2).replace("-", "\u2212");

  // A part that is filled when it is opened and emptied when it is closed.
  function fold(name, facts, fill) {
    const details = element("details", undefined, name);
    details.append(element("summary", facts));
    details.addEventListener("toggle", async () => {
      while (details.childElementCount > 1) details.lastElementChild.remove();
      if (details.open) {
        const parts = await fill();
        if (details.open && details.childElementCount === 1) details.append(...parts);
      }
    });
    return details;
  }

  function completion(one, number, place) {
    const facts = [`#${number + 1}`, plain(one.outcome), `advantage ${signed(one.advantage)}`];
    if (one.answer !== null) facts.push(`answer ${one.answer.slice(0, 120)}`);
    facts.push(`${one.tokens.toLocaleString("en")} tokens${one.cut ? ", cut by the budget" : ""}`);
    return fold(`completion ${one.outcome}`, facts.join(" · "), async () => {
      const texts = await unpack(shown.lines[place + 1]);
      return [element("pre", texts[number])];
    });
  }

  function group(each, place) {
    const correct = each.completions.filter((one) => one.outcome === "correct").length;
    const mean = each.completions.reduce((sum, one) => sum + one.tokens, 0) / each.completions.length;
    const facts = `${correct}/${each.completions.length} · ${each.id} · ${Math.round(mean).toLocaleString("en")} tokens`;
    return fold("group", facts, async () => {
      const parts = [];
      if (each.question !== null) parts.push(element("pre", each.question, "question"));
      if (each.references.length) parts.push(element("p", `Accepted: ${each.references.join("   or   ")}`));
      each.completions.forEach((one, number) => {
        if (!filter || one.outcome === filter) parts.push(completion(one, number, place));
      });
      return parts;
    });
  }

  function showGroups() {
    const wanted = shown.groups.map((each, place) => [each, place]).filter(
      ([each]) => !filter || each.completions.some((one) => one.outcome === filter));
    list.replaceChildren(...wanted.map(([each, place]) => group(each, place)));
  }

  async function showStep(entry) {
    const own = ++turn;
    list.replaceChildren(element("p", "loading …", "missing"));
    try {
      const lines = await load(entry);
      const groups = await unpack(lines[0]);
      if (own !== turn) return;
      shown = { groups, lines };
    } catch (error) {
      if (own === turn) list.replaceChildren(element("p", error.message, "warning"));
      return;
    }
    filter = "";
    const seen = [...new Set(shown.groups.flatMap((each) => each.completions.map((one) => one.outcome)))].sort();
    const number = shown.groups.reduce((sum, each) => sum + each.completions.length, 0);
    const options = [["", `all ${number.toLocaleString("en")}`], ...seen.map((outcome) => [outcome, plain(outcome)])];
    while (bar.childElementCount > 2) bar.lastElementChild.remove();
    bar.append(choice("completions", options, (value) => { filter = value; showGroups(); }));
    if (entry.rescued) bar.append(element("span", `${entry.rescued} of these groups were rescued in the update`));
    showGroups();
  }

  const stages = [...new Set(steps.map((each) => each.stage))];
  function showStage(name) {
    const own = steps.map((each, number) => [each, number]).filter(([each]) => each.stage === name);
    const label = (each) => `${each.step}${each.reward === null ? "" : ` · reward ${each.reward.toFixed(2)}`}` +
      (each.where ? "" : " (left out)");
    while (bar.childElementCount > 1) bar.lastElementChild.remove();
    const made = choice("step", own.map(([each, number]) => [number, label(each)]), (value) => showStep(steps[value]));
    bar.append(made);
    const last = own.findLast(([each]) => each.where) ?? own.at(-1);
    made.querySelector("select").value = last[1];
    list.replaceChildren();
    const open = element("button", `show step ${last[0].step}`);
    open.addEventListener("click", () => showStep(last[0]));
    list.append(open);
  }
  bar.append(choice("stage", stages.map((name) => [name, name]), showStage));
  showStage(stages[0]);
})();
