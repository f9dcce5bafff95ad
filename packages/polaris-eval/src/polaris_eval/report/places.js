// What is shown is said by the fragment of the address alone, so every view can be linked to:
// #benchmark=aime24&problem=17&sample=5&filter=truncated&search=ellipse&in=texts&sort=-right
const { element, line, text } = mathematics;
const root = document.getElementById("browser");
const data = JSON.parse(document.getElementById("browser-data").textContent);
const plain = (outcome) => outcome.replaceAll("_", " ");
const many = (count) => count.toLocaleString("en");
const mean = (numbers) => numbers.reduce((sum, each) => sum + each, 0) / numbers.length;

const right = (each) => each.outcome === "correct";
const cut = (each) => each.finish === "length";
const unparsed = (each) => !cut(each) && ["no_answer", "answer_rejected", "answer_timeout"].includes(each.outcome);
const unreadable = (each) => each.outcome === "reference_rejected";
const disagree = (each) => Boolean(each.second) && right(each) !== (each.second.outcome === "correct");

for (const { problems } of data) {
  problems.forEach((problem, index) => {
    const { completions } = problem;
    const tokens = completions.map((each) => each.tokens).filter((each) => each !== null);
    problem.number = index + 1;
    problem.right = completions.filter(right).length;
    problem.cut = completions.filter(cut).length;
    problem.tokens = tokens.length ? mean(tokens) : null;
    problem.scored = !completions.every(unreadable);
    problem.words = [problem.id, problem.question ?? "", ...problem.references, ...completions.map((each) => each.answer ?? "")]
      .join("\n").toLowerCase();
  });
}

// By name: what it is called, which problems, and of these which completions (all where that is not said).
const FILTERS = {
  "": ["all problems", () => true],
  "all-wrong": ["all wrong", (problem) => problem.scored && problem.right === 0],
  "all-right": ["all right", (problem) => problem.right === problem.completions.length],
  "mixed": ["some right, some not", (problem) => problem.right > 0 && problem.right < problem.completions.length],
  ...Object.fromEntries(Object.entries({
    "incorrect": ["with a wrong answer", (each) => each.outcome === "incorrect"],
    "truncated": ["truncated by the token budget", cut],
    "unparsed": ["unparsed: ended by itself, no answer read", unparsed],
    "disagree": ["graders disagree", disagree],
    "stated": ["not correct, but a reference stands at the end", (each) => each.stated],
    "unreadable": ["the reference cannot be read", unreadable],
  }).map(([key, [label, one]]) => [key, [label, (problem) => problem.completions.some(one), one]])),
};
const COLUMNS = {
  number: ["#", (problem) => problem.number],
  id: ["problem", (problem) => problem.id],
  strip: ["completions", null],
  right: ["right", (problem) => problem.right / problem.completions.length],
  tokens: ["tokens", (problem) => problem.tokens ?? -1],
  cut: ["cut", (problem) => problem.cut / problem.completions.length],
  question: ["question", null],
};

let place;
let lost = "";

function read() {
  const query = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const get = (key) => query.get(key) ?? "";
  const asked = data.findIndex((each) => each.name === get("benchmark"));
  const benchmark = data[Math.max(0, asked)];
  const problem = benchmark.problems.find((each) => each.id === get("problem")) ?? null;
  const sample = Number(get("sample"));
  const sort = get("sort").replace("-", "");
  place = {
    benchmark,
    problem,
    sample: problem && problem.completions[sample - 1] ? sample : null,
    filter: Object.hasOwn(FILTERS, get("filter")) ? get("filter") : "",
    search: get("search"),
    texts: get("in") === "texts",
    sort: Object.hasOwn(COLUMNS, sort) && COLUMNS[sort][1] ? sort : "number",
    down: get("sort").startsWith("-"),
  };
  const missing = [["benchmark", asked >= 0], ["problem", problem], ["sample", place.sample], ["filter", place.filter], ["sort", sort === place.sort]];
  lost = missing.filter(([key, found]) => get(key) && !found).map(([key]) => `no ${key} ${JSON.stringify(get(key))} here`).join(", ");
  return [...query].length > 0;
}

function link(change) {
  const to = { ...place, ...change };
  const query = new URLSearchParams({ benchmark: to.benchmark.name });
  if (to.problem) query.set("problem", to.problem.id);
  if (to.problem && to.sample) query.set("sample", to.sample);
  if (to.filter) query.set("filter", to.filter);
  if (to.search) query.set("search", to.search);
  if (to.search && to.texts) query.set("in", "texts");
  if (to.sort !== "number" || to.down) query.set("sort", (to.down ? "-" : "") + to.sort);
  return `#${query}`;
}

const go = (change) => { location.hash = link(change); };

function adjust(change) {
  const to = link(change);
  history.replaceState(null, "", to);
  read();
}

async function unpack(problem, benchmark) {
  const pack = document.getElementById(`pack-${data.indexOf(benchmark)}-${problem.number - 1}`);
  const bytes = Uint8Array.from(atob(pack.textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

let found = { key: null, samples: new Map() };

// Which completions hold the sought text, by problem; a newer search ends an older one.
async function searchTexts() {
  const { benchmark, search } = place;
  const key = `${benchmark.name}\n${search}`;
  if (found.key === key) return;
  const own = { key, samples: new Map() };
  found = own;
  const sought = search.toLowerCase();
  const { problems } = benchmark;
  const order = place.problem ? [place.problem, ...problems.filter((each) => each !== place.problem)] : problems;
  for (const [done, problem] of order.entries()) {
    const texts = await unpack(problem, benchmark);
    if (found !== own) return;
    own.samples.set(problem, new Set(texts.flatMap((each, index) => (each.toLowerCase().includes(sought) ? [index] : []))));
    if (problem === place.problem) showDetail();
    if (done % Math.ceil(order.length / 10) === 0) {
      showList();
      status.textContent = `searching: ${done + 1} of ${order.length} problems`;
    }
  }
  showList();
}

const searching = () => place.search && place.texts;

function isShown(each, index, problem) {
  const one = FILTERS[place.filter][2];
  return (!one || one(each)) && (!searching() || Boolean(found.samples.get(problem)?.has(index)));
}

function listed() {
  const sought = place.search.toLowerCase();
  const [, holds, one] = FILTERS[place.filter];
  const value = COLUMNS[place.sort][1];
  return place.benchmark.problems
    .filter((each) => holds(each) && (searching()
      ? each.completions.some((completion, index) => isShown(completion, index, each))
      : !sought || each.words.includes(sought)))
    .sort((one, other) => {
      const [first, second] = [value(one), value(other)];
      const order = typeof first === "string" ? first.localeCompare(second, "en", { numeric: true }) : first - second;
      return (place.down ? -order : order) || one.number - other.number;
    });
}
