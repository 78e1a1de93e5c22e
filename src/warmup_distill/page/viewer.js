"use strict";

// The viewer of the pairs. Text of models reaches the page through textContent only.
(() => {
  const PER_PAGE = 10;
  const byId = (id) => document.getElementById(id);
  const { cards, edges, verdicts } = JSON.parse(byId("viewer-data").textContent);
  const state = { verdict: "", words: "", page: 0 };

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function number(value, digits) {
    return value.toFixed(digits).replace("-", "\u2212");
  }

  function button(text, isOn, onClick) {
    const element = make("button", "", text);
    element.type = "button";
    element.addEventListener("click", onClick);
    if (isOn !== null) element.setAttribute("aria-pressed", String(isOn));
    return element;
  }

  // The colour of a margin: how many of the edges it exceeds. The cut always has the last one.
  function level(margin, isCut) {
    if (isCut) return edges.length;
    return edges.filter((edge) => margin > edge).length;
  }

  function token([text, margin], index, isCut) {
    const element = make("span", "token");
    if (text.includes("\n")) element.append(make("span", "newline", "\u21b5"));
    element.append(text);
    if (margin === null) {
      element.classList.add("unchecked");
      element.title = `token ${index}, not checked`;
      return element;
    }
    element.classList.add(`level-${level(margin, isCut)}`);
    if (isCut) element.classList.add("cut");
    element.title = `token ${index}, margin ${number(margin, 2)} nats`;
    return element;
  }

  function tokens(list, start, cut) {
    const text = make("p", "text");
    text.append(...list.map((one, offset) => token(one, start + offset, start + offset === cut)));
    return text;
  }

  function block(heading, body, className) {
    const element = make("div", className);
    element.append(make("h4", "", heading), body);
    return element;
  }

  function cutMark(card) {
    const margin = card.margin === null ? "" : `, margin ${number(card.margin, 1)} nats`;
    const mark = make("p", "cut-mark");
    mark.append(make("span", "", `cut at token ${card.cut}${margin}`));
    return mark;
  }

  function head(card) {
    const element = make("header");
    element.append(make("h3", "", card.prompt_id), make("span", "sample", `sample ${card.sample}`));
    if (card.verdict) {
      element.append(make("span", `verdict ${card.verdict}`, verdicts[card.verdict]));
    }
    return element;
  }

  function article(card) {
    const element = make("article");
    const sides = make("div", "sides");
    sides.append(
      block("The student went on", tokens(card.student, card.cut, card.cut), "student"),
      block("The teacher went on", make("p", "text", card.teacher), "teacher"),
    );
    element.append(head(card), block("Prompt", make("p", "text", card.prompt), "prompt"));
    if (card.prefix.length) {
      element.append(block("Both begin with", tokens(card.prefix, 0, card.cut), "prefix"));
    }
    element.append(cutMark(card), sides);
    return element;
  }

  const join = (list) => list.map(([text]) => text).join("");
  const texts = cards.map((card) =>
    [card.prompt_id, card.prompt, join(card.prefix) + join(card.student)]
      .concat(join(card.prefix) + card.teacher)
      .join("\n")
      .toLowerCase(),
  );

  function found() {
    return cards.filter(
      (card, index) =>
        (!state.verdict || card.verdict === state.verdict) && texts[index].includes(state.words),
    );
  }

  function drawButtons() {
    const present = Object.keys(verdicts).filter((key) => cards.some((c) => c.verdict === key));
    const choices = present.length ? ["", ...present] : [];
    const choose = (verdict) => () => show({ verdict, page: 0 });
    byId("verdicts").replaceChildren(
      ...choices.map((key) => {
        const count = cards.filter((card) => !key || card.verdict === key).length;
        return button(`${verdicts[key] ?? "all"} ${count}`, state.verdict === key, choose(key));
      }),
    );
  }

  function drawPager(pages) {
    const turn = (page) => () => {
      show({ page });
      byId("viewer").scrollIntoView();
    };
    const previous = button("Previous", null, turn(state.page - 1));
    const next = button("Next", null, turn(state.page + 1));
    previous.disabled = state.page === 0;
    next.disabled = state.page >= pages - 1;
    const where = make("span", "", `page ${state.page + 1} of ${pages}`);
    byId("pager").replaceChildren(...(pages > 1 ? [previous, where, next] : []));
  }

  function drawLegend() {
    const names = [`below ${number(edges[0], 1)}`];
    edges.slice(1).forEach((edge, index) => {
      names.push(`${number(edges[index], 1)} to ${number(edge, 1)}`);
    });
    names.push(`above \u03b7 = ${number(edges.at(-1), 1)}`);
    const items = names.map((name, index) => make("li", `level-${index}`, name));
    const isUnchecked = ([, margin]) => margin === null;
    if (cards.some((card) => card.student.some(isUnchecked))) {
      items.push(make("li", "unchecked", "not checked"));
    }
    byId("legend").replaceChildren(make("li", "title", "margin of a student token, nats"), ...items);
  }

  function show(change) {
    Object.assign(state, change);
    const list = found();
    const pages = Math.max(1, Math.ceil(list.length / PER_PAGE));
    const first = state.page * PER_PAGE;
    byId("cards").replaceChildren(...list.slice(first, first + PER_PAGE).map(article));
    const shown = list.length === 1 ? "1 pair" : `${list.length} pairs`;
    byId("status").textContent = `${shown} of ${cards.length} in this viewer`;
    drawButtons();
    drawPager(pages);
  }

  byId("search").addEventListener("input", (event) => {
    show({ words: event.target.value.toLowerCase(), page: 0 });
  });
  drawLegend();
  show({});
  byId("viewer").hidden = false;
})();
