// Texts with formulas. What a model wrote is only ever text to the page; of a formula KaTeX makes elements, and what it
// cannot read, or would make something monstrous of, stays as it was written.
const mathematics = (() => {
  const MAX_SOURCE = 3000; // characters of a formula
  const MAX_DEPTH = 150; // elements inside each other: browsers break down at some thousands
  const BLOCK = 800; // characters, about, that are typeset together
  const DEFINES = /\\(?:[gex]?def|let|futurelet|global|long|(?:re)?newcommand|providecommand)(?![a-z])/i;
  const ENVIRONMENTS = "equation|align|alignat|gather|aligned|gathered|cases|array|[pbBvV]?matrix";
  // In this order at each place: what is escaped, then each way to write a formula.
  const FORMULA = new RegExp([
    String.raw`\\[\\$]`,
    String.raw`\$\$(?<dollars>[^]{1,3000}?)\$\$`,
    String.raw`\\\[(?<brackets>[^]{1,3000}?)\\\]`,
    String.raw`\\\((?<parentheses>[^]{1,3000}?)\\\)`,
    String.raw`(?<environment>\\begin\{(?<name>(?:${ENVIRONMENTS})\*?)\}[^]{1,3000}?\\end\{\k<name>\})`,
    String.raw`(?<box>\\boxed\s?\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\})`,
    // As pandoc reads it, so that prices are no formulas: no space inside the dollars, no digit after them.
    String.raw`\$(?<dollar>(?!\s)(?:\\.|\n(?!\s*\n)|[^$\\\n]){1,1500}?)(?<!\s)\$(?!\d)`,
  ].join("|"), "g");

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  // The parts of a text: {source}, or {source, tex, display} of a formula.
  function split(text) {
    const parts = [];
    let end = 0;
    for (const match of text.matchAll(FORMULA)) {
      const { dollars, brackets, parentheses, environment, box, dollar } = match.groups;
      const display = dollars ?? brackets ?? environment;
      const tex = display ?? parentheses ?? box ?? dollar;
      if (tex === undefined) continue;
      if (match.index > end) parts.push({ source: text.slice(end, match.index) });
      parts.push({ source: match[0], tex, display: display !== undefined });
      end = match.index + match[0].length;
    }
    if (end < text.length) parts.push({ source: text.slice(end) });
    return parts;
  }

  function depth(root) {
    let deepest = 0;
    let level = 0;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT);
    for (;;) {
      if (walker.firstChild()) level += 1;
      else {
        while (!walker.nextSibling()) {
          if (!walker.parentNode() || walker.currentNode === root) return deepest;
          level -= 1;
        }
      }
      deepest = Math.max(deepest, level);
    }
  }

  function formula(source, tex, display) {
    const made = element("span", undefined, display ? "formula display" : "formula");
    try {
      if (tex.length > MAX_SOURCE || DEFINES.test(tex)) throw new RangeError("not to be typeset");
      katex.render(tex, made, { displayMode: display, strict: "ignore", trust: false, maxSize: 20, maxExpand: 500 });
      if (depth(made) > MAX_DEPTH) throw new RangeError("too deep");
    } catch {
      made.replaceChildren(source);
      made.className = "unread";
    }
    return made;
  }

  // Pieces of text and marks where the sought word stands.
  function marked(text, sought) {
    if (!sought) return [document.createTextNode(text)];
    const made = [];
    const lower = text.toLowerCase();
    let end = 0;
    for (let at = lower.indexOf(sought); at >= 0; at = lower.indexOf(sought, end)) {
      made.push(document.createTextNode(text.slice(end, at)), element("mark", text.slice(at, at + sought.length)));
      end = at + sought.length;
    }
    made.push(document.createTextNode(text.slice(end)));
    return made;
  }

  function fill(block, parts, sought) {
    block.replaceChildren(...parts.flatMap(({ source, tex, display }) => {
      if (tex === undefined) return marked(source, sought);
      const made = formula(source, tex, display);
      if (sought && source.toLowerCase().includes(sought)) made.classList.add("hit");
      return [made];
    }));
  }

  // Parts in groups that end with a line: [[part, ...], ...]; texts are cut at their line breaks for it.
  function group(parts) {
    const groups = [[]];
    let length = 0;
    const next = () => { if (groups.at(-1).length) groups.push([]); length = 0; };
    for (const part of parts) {
      if (part.tex !== undefined) {
        groups.at(-1).push(part);
        length += part.source.length;
        continue;
      }
      for (const line of part.source.split(/(?<=\n)/)) {
        const blank = !line.trim();
        if (!blank || groups.at(-1).length) groups.at(-1).push({ source: line });
        length += line.length;
        if (line.endsWith("\n") && (blank || length > BLOCK)) next();
      }
    }
    return groups.filter((each) => each.length);
  }

  // A text as blocks whose formulas are typeset when they come near the visible part of `scroller`; what is thought,
  // up to the closing tag, is set apart. `inThought` says that it began before the text.
  function text(scroller, source, { sought = "", typeset = true, inThought = false } = {}) {
    const groups = typeset ? group(split(source)) : [[{ source }]];
    const written = groups.map((parts) => parts.map((part) => part.source).join(""));
    const thoughts = written.findLastIndex((each) => each.includes("</think>"));
    const isThought = (number) => (thoughts >= 0 ? number <= thoughts : inThought || /^\s*<think>/.test(source));
    const blocks = groups.map((parts, number) => {
      const block = element("div", undefined, typeset && isThought(number) ? "block thought" : "block");
      if (parts.some((part) => part.tex !== undefined)) block.textContent = written[number];
      else fill(block, parts, sought);
      return block;
    });
    scroller.replaceChildren(...blocks);
    const waiting = new Map(blocks.map((block, number) => [block, groups[number]]));
    const show = (block) => {
      if (waiting.has(block)) fill(block, waiting.get(block), sought);
      waiting.delete(block);
      observer.unobserve(block);
    };
    const observer = new IntersectionObserver(
      (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => show(entry.target)),
      { root: scroller, rootMargin: "600px" });
    blocks.forEach((block) => observer.observe(block));
    // Its neighbours first, whose heights are others once they are typeset.
    const reveal = (number) => {
      scroller.scrollIntoView({ block: "nearest" });
      blocks.slice(Math.max(0, number - 10), number + 10).forEach(show);
      scroller.scrollTop += blocks[number].getBoundingClientRect().top - scroller.getBoundingClientRect().top - 40;
    };
    return {
      toAnswer: () => reveal(Math.min(thoughts + 1, blocks.length - 1)),
      toEnd: () => { reveal(blocks.length - 1); scroller.scrollTop = scroller.scrollHeight; },
      toHit: () => {
        const number = written.findIndex((each) => each.toLowerCase().includes(sought));
        if (number >= 0) reveal(number);
      },
    };
  }

  // A short text, all at once. `bare`: the whole of it is a formula where it looks like one; `flat`: in one line.
  function line(source, { bare = false, flat = false, sought = "" } = {}) {
    const made = element("span");
    const isFormula = bare && /[\\^_]/.test(source) && !/\$|\\\(|\\\[/.test(source);
    const parts = isFormula ? [{ source, tex: source, display: false }] : split(source);
    fill(made, flat ? parts.map((part) => ({ ...part, display: false })) : parts, sought);
    return made;
  }

  return { element, line, text };
})();
