// The list of problems, which is the heat map, and what chooses from it.
const QUESTION_CHARS = 200;

function control(tag, label, change) {
  const made = element(tag);
  made.setAttribute("aria-label", label);
  made.addEventListener(tag === "input" ? "input" : "change", () => change(made));
  return made;
}

const bar = root.appendChild(element("div", undefined, "bar"));
const benchmarks = control("select", "benchmark", (made) => go({ benchmark: data[made.value], problem: null, sample: null }));
data.forEach((each, index) => benchmarks.append(new Option(each.name, index)));
const filters = control("select", "filter", (made) => go({ filter: made.value }));
const search = control("input", "search", sought);
search.type = "search";
search.placeholder = "search problems and answers";
const inTexts = control("input", "search in completions, too", sought);
inTexts.type = "checkbox";
const label = element("label");
label.append(inTexts, " in completions");
bar.append(...(data.length > 1 ? [benchmarks] : []), filters, search, label);
const legend = root.appendChild(element("div", undefined, "legend"));
const status = root.appendChild(element("div", undefined, "status"));
status.setAttribute("role", "status");
const panes = root.appendChild(element("div", undefined, "panes"));
const list = panes.appendChild(element("div", undefined, "list"));
const detail = panes.appendChild(element("div", undefined, "detail"));

let typing;
function sought() {
  clearTimeout(typing);
  typing = setTimeout(() => { adjust({ search: search.value, texts: inTexts.checked }); show(); }, 200);
}

const facts = (each, index) => [
  `#${index + 1}`, plain(each.outcome), each.answer === null ? "" : `answer ${each.answer}`,
  each.tokens === null ? "" : `${many(each.tokens)} tokens`, cut(each) ? "cut by the token budget" : "",
  each.second ? `${each.second.grader}: ${plain(each.second.outcome)}` : "",
].filter(Boolean).join(" · ");

// A problem's row of the heat map: one cell a completion, drawn as one background.
function cells(problem) {
  const { completions } = problem;
  const count = completions.length;
  const layer = (color, height, side) => {
    const stops = completions.map((each, index) => `${color(each, index)} ${(100 * index) / count}% ${(100 * (index + 1)) / count}%`);
    return `linear-gradient(90deg, ${stops.join(", ")}) 0 ${side} / 100% ${height} no-repeat`;
  };
  const mark = (holds) => (each, index) => (holds(each) && isShown(each, index, problem) ? "#000" : "transparent");
  const gaps = `repeating-linear-gradient(90deg, transparent 0 calc(${100 / count}% - 1px), #fff calc(${100 / count}% - 1px) ${100 / count}%)`;
  const made = element("div", undefined, "cells");
  made.style.width = `min(100%, ${14 * count}px)`;
  made.style.background = [
    ...(count <= 40 ? [gaps] : []),
    ...(problem.cut ? [layer(mark(cut), "4px", "0")] : []),
    ...(completions.some(disagree) ? [layer(mark(disagree), "4px", "100%")] : []),
    layer((each, index) => (isShown(each, index, problem) ? `var(--${each.outcome})` : "#eee"), "100%", "0"),
  ].join(", ");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", `${problem.right} of ${count} completions right`);
  const under = (event) => {
    const box = made.getBoundingClientRect();
    return Math.min(count - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * count)));
  };
  made.addEventListener("pointermove", (event) => { made.title = facts(completions[under(event)], under(event)); });
  made.addEventListener("click", (event) => {
    event.stopPropagation();
    go({ problem, sample: under(event) + 1 });
  });
  return made;
}

// What is costly in a row is made when it comes into sight: its cells, and the formulas of its question.
const waiting = new WeakMap();
const sight = new IntersectionObserver((entries) => {
  for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
    const problem = waiting.get(target);
    target.querySelector(".strip").replaceChildren(cells(problem));
    target.querySelector(".question").replaceChildren(line((problem.question ?? "").slice(0, QUESTION_CHARS), { flat: true }));
    sight.unobserve(target);
  }
});

function row(problem) {
  const made = element("tr");
  const id = element("a", problem.id);
  id.href = link({ problem, sample: null });
  id.title = problem.id;
  const content = {
    number: problem.number, id, strip: "", right: `${problem.right}/${problem.completions.length}`,
    tokens: problem.tokens === null ? "?" : many(Math.round(problem.tokens)), cut: problem.cut || "", question: "",
  };
  for (const [name, value] of Object.entries(content)) made.appendChild(element("td", undefined, name)).append(value);
  made.addEventListener("click", (event) => { if (event.target.tagName !== "A") go({ problem, sample: null }); });
  waiting.set(made, problem);
  sight.observe(made);
  made.setAttribute("aria-current", String(problem === place.problem));
  return made;
}

function heading() {
  const made = element("tr");
  const largest = Math.max(...place.benchmark.problems.map((each) => each.completions.length));
  for (const [name, [label, value]] of Object.entries(COLUMNS)) {
    const cell = made.appendChild(element("th", undefined, name));
    const sorted = name === place.sort;
    const shown = name === "strip" ? `${label} 1 to ${largest}` : label;
    const button = cell.appendChild(element("button", shown + (sorted ? (place.down ? " ↓" : " ↑") : "")));
    button.disabled = !value;
    if (sorted) cell.setAttribute("aria-sort", place.down ? "descending" : "ascending");
    button.addEventListener("click", () => { adjust({ sort: name, down: sorted && !place.down }); showList(); showDetail(); });
  }
  return made;
}

function showBar() {
  benchmarks.value = data.indexOf(place.benchmark);
  const options = Object.entries(FILTERS).map(([key, [label, holds]]) => [key, label, place.benchmark.problems.filter(holds).length]);
  filters.replaceChildren(...options
    .filter(([key, , count]) => count || key === place.filter || ["all-wrong", "truncated", "unparsed"].includes(key))
    .map(([key, label, count]) => new Option(`${label} (${many(count)})`, key)));
  filters.value = place.filter;
  if (document.activeElement !== search) search.value = place.search;
  inTexts.checked = place.texts;
  const all = place.benchmark.problems.flatMap((each) => each.completions);
  const swatch = (color, name, label) => {
    const made = element("span");
    const box = made.appendChild(element("i", undefined, name));
    if (color) box.style.background = color;
    made.append(label);
    return made;
  };
  legend.replaceChildren(
    ...[...new Set(all.map((each) => each.outcome))].sort().map((each) => swatch(`var(--${each})`, "", plain(each))),
    ...(all.some(cut) ? [swatch("", "top", "cut by the token budget")] : []),
    ...(all.some(disagree) ? [swatch("", "bottom", "graders disagree")] : []));
}

function showList() {
  const problems = listed();
  const table = element("table");
  table.appendChild(element("thead")).append(heading());
  table.appendChild(element("tbody")).append(...problems.map(row));
  const top = list.scrollTop;
  list.replaceChildren(table);
  list.scrollTop = top;
  const total = place.benchmark.problems.length;
  status.textContent = [lost, `${many(problems.length)} of ${many(total)} problems`].filter(Boolean).join("; ");
}
