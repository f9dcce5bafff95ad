"use strict";
(() => {
  const SHOWN_CHARS = 1500;
  const data = JSON.parse(document.getElementById("browser-data").textContent);
  const root = document.getElementById("browser");
  const nav = root.appendChild(document.createElement("nav"));
  const main = root.appendChild(document.createElement("div"));
  let benchmark = 0;
  let problem = 0;
  let outcome = "";

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function select(label, options, value, change) {
    const made = element("select");
    made.setAttribute("aria-label", label);
    for (const [key, text] of options) {
      const option = made.appendChild(element("option", text));
      option.value = key;
    }
    made.value = value;
    made.addEventListener("change", () => change(made.value));
    return made;
  }

  function numCorrect(each) {
    return each.completions.filter((completion) => completion.outcome === "correct").length;
  }

  function showList() {
    const names = data.map((each, number) => [String(number), each.name]);
    nav.replaceChildren(select("benchmark", names, String(benchmark), (value) => {
      benchmark = Number(value);
      problem = 0;
      show();
    }));
    data[benchmark].problems.forEach((each, number) => {
      const button = nav.appendChild(element("button"));
      button.append(element("span", each.id, "name"), `${numCorrect(each)}/${each.completions.length}`);
      button.setAttribute("aria-current", String(number === problem));
      button.addEventListener("click", () => {
        problem = number;
        show();
      });
    });
  }

  function showText(place, completion) {
    const gap = completion.cut
      ? `\n\n[... ${completion.cut.toLocaleString("en")} characters are in completions.jsonl only ...]\n\n`
      : "";
    const text = completion.head + gap + completion.tail;
    const pre = element("pre", text);
    if (text.length > 2 * SHOWN_CHARS) {
      const hidden = text.length - 2 * SHOWN_CHARS;
      pre.textContent = text.slice(0, SHOWN_CHARS) + "\n\n[...]\n\n" + text.slice(-SHOWN_CHARS);
      const button = element("button", `show ${hidden.toLocaleString("en")} more characters`);
      button.addEventListener("click", () => {
        pre.textContent = text;
        button.remove();
      });
      place.append(button);
    }
    place.append(pre);
  }

  function showCompletion(completion, number) {
    const details = element("details", undefined, completion.outcome);
    const facts = [`#${number + 1}`, completion.outcome.replaceAll("_", " ")];
    if (completion.answer !== null) facts.push(`answer ${completion.answer.slice(0, 200)}`);
    if (completion.tokens !== null) facts.push(`${completion.tokens.toLocaleString("en")} tokens`);
    if (completion.finish === "length") facts.push("cut by the token budget");
    details.append(element("summary", facts.join(" · ")));
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) showText(details, completion);
    });
    return details;
  }

  function show() {
    showList();
    const each = data[benchmark].problems[problem];
    main.replaceChildren(element("h3", each.id));
    if (each.question) main.append(element("pre", each.question));
    main.append(element("p", `Accepted: ${each.references.join("   or   ")}`));
    const seen = [...new Set(each.completions.map((completion) => completion.outcome))];
    if (!seen.includes(outcome)) outcome = "";
    const options = [["", `all ${each.completions.length} completions`]].concat(
      seen.map((name) => [name, `only ${name.replaceAll("_", " ")}`]));
    main.append(select("outcome", options, outcome, (value) => {
      outcome = value;
      show();
    }));
    each.completions.forEach((completion, number) => {
      if (!outcome || completion.outcome === outcome) main.append(showCompletion(completion, number));
    });
  }

  show();
})();
