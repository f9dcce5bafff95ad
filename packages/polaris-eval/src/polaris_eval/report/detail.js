// One problem with its completions, and what happens when the address changes.
function note(place, text) { place.append(element("span", text, "note")); }

function open(details, problem, index) {
  const each = problem.completions[index];
  const tools = element("div", undefined, "tools");
  const scroller = element("div", "unpacking ...", "writing");
  details.append(tools, scroller);
  const benchmark = place.benchmark;
  return unpack(problem, benchmark).then((texts) => {
    let typeset = true;
    let shown;
    const show = () => {
      scroller.className = typeset ? "writing" : "writing source";
      shown = text(scroller, texts[index], { typeset, sought: place.search.toLowerCase(), inThought: each.prefilled });
    };
    const button = (label, act) => {
      const made = tools.appendChild(element("button", label));
      made.addEventListener("click", () => act(made));
    };
    if (texts[index].includes("</think>")) button("to the answer", () => shown.toAnswer());
    button("to the end", () => shown.toEnd());
    button("as written", (made) => { typeset = !typeset; made.textContent = typeset ? "as written" : "typeset"; show(); });
    const here = tools.appendChild(element("a", "link"));
    here.href = link({ problem, sample: index + 1 });
    if (each.left_out) note(tools, `${many(each.left_out)} characters of the middle are in completions.jsonl only`);
    show();
    if (searching()) shown.toHit();
  }).catch((error) => {
    scroller.textContent = `this text cannot be unpacked (${error.message}); it takes Chrome 97, Firefox 113 or Safari 16.4, or newer`;
  });
}

function completion(problem, each, index) {
  const details = element("details", undefined, each.outcome);
  details.id = `sample-${index + 1}`;
  const summary = details.appendChild(element("summary", `#${index + 1} · ${plain(each.outcome)}`));
  if (each.answer !== null) summary.append(" · answer ", line(each.answer, { bare: true }));
  if (each.tokens !== null) summary.append(` · ${many(each.tokens)} tokens`);
  if (cut(each)) note(summary, "cut by the token budget");
  if (unparsed(each) && each.outcome === "no_answer") note(summary, "ended by itself, no answer read");
  if (each.stated) note(summary, "a reference stands at the end");
  if (each.second) {
    if (disagree(each)) note(summary, `graders disagree: ${each.second.grader} says ${plain(each.second.outcome)}`);
    else summary.append(` · ${each.second.grader}: ${plain(each.second.outcome)}`);
  }
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) {
      if (place.sample !== index + 1) adjust({ sample: index + 1 });
      const opened = open(details, problem, index);
      if (details.dataset.asked) opened.then(() => details.scrollIntoView());
    }
  });
  return details;
}

// What was answered how often: equivalent answers are one.
function answers(problem) {
  const classes = new Map();
  problem.completions.forEach((each) => {
    const key = each.answer === null ? each.outcome : `${each.vote ?? each.answer} ${right(each)}`;
    if (!classes.has(key)) classes.set(key, { ...each, count: 0 });
    classes.get(key).count += 1;
  });
  const made = element("ul", undefined, "answers");
  for (const each of [...classes.values()].sort((one, other) => other.count - one.count).slice(0, 12)) {
    const item = made.appendChild(element("li", undefined, each.outcome));
    item.append(each.answer === null ? plain(each.outcome) : line(each.answer, { bare: true }), ` × ${each.count}${right(each) ? " ✓" : ""}`);
  }
  if (classes.size > 12) made.append(element("li", `and ${classes.size - 12} others`));
  return made;
}

function steps(problem) {
  const made = element("div", undefined, "steps");
  const order = listed();
  const at = order.indexOf(problem);
  const step = (label, to, name) => {
    const button = made.appendChild(element("button", label, name));
    button.disabled = to === undefined;
    button.addEventListener("click", () => go({ problem: to, sample: null }));
  };
  step("← all problems", null, "back");
  step("previous", at > 0 ? order[at - 1] : undefined);
  step("next", order[at + 1]);
  step("close", null, "close");
  return made;
}

function showDetail() {
  const { problem } = place;
  root.classList.toggle("open", problem !== null);
  if (!problem) return void detail.replaceChildren();
  const sought = place.search.toLowerCase();
  const accepted = element("p", "Accepted: ");
  problem.references.forEach((each, index) => accepted.append(index ? "   or   " : "", line(each, { bare: true })));
  const question = element("div", undefined, "problem");
  if (problem.question) question.append(line(problem.question, { sought }));
  const parts = problem.completions.map((each, index) => isShown(each, index, problem) && completion(problem, each, index)).filter(Boolean);
  const all = problem.completions.length;
  const why = [FILTERS[place.filter][2] ? FILTERS[place.filter][0] : "", searching() ? `with ${JSON.stringify(place.search)}` : ""];
  const chosen = `${parts.length} of ${all} completions: ${why.filter(Boolean).join(", ")} `;
  const count = element("p", parts.length === all ? `${all} completions` : chosen);
  if (parts.length < all) {
    const everything = count.appendChild(element("a", `show all ${all}`));
    everything.href = link({ filter: "", search: "", sample: null });
  }
  detail.replaceChildren(steps(problem), element("h3", `${problem.number} · ${problem.id}`), ...(problem.question ? [question] : []),
    accepted, answers(problem), count, ...parts);
  const asked = place.sample && document.getElementById(`sample-${place.sample}`);
  if (asked) {
    asked.dataset.asked = "yes";
    asked.open = true;
  }
}

function show() {
  showBar();
  showList();
  showDetail();
  if (searching()) searchTexts();
}

function move() {
  const before = place?.problem;
  const linked = read();
  show();
  if (place.problem && place.problem !== before) {
    list.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
    panes.scrollIntoView();
  } else if (linked && before === undefined) root.scrollIntoView();
}

window.addEventListener("hashchange", () => { if (location.hash.includes("=") || !location.hash) move(); });
move();
