// A figure to move in. The table below it holds its points: the names of each, then its numbers. The reader chooses
// one and a rival; both are said, and framed in the picture, at the places that tlhelpers.page.points gives in per cent.

const add = (parent, tag, text = "", attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return parent.appendChild(element);
};

// A row of numbers is a slide, other names are a list. Gives what reads and what sets it.
const control = (parent, title, values) => {
  const label = add(parent, "label");
  const heading = add(label, "span", title);
  if (!values.every((value) => Number.isFinite(Number(value)))) {
    const select = add(label, "select");
    for (const value of values) add(select, "option", value);
    return { get: () => select.value, set: (value) => (select.value = value) };
  }
  const slide = add(label, "input", "", { type: "range", min: 0, max: values.length - 1 });
  const shown = add(heading, "b", "", { "aria-hidden": "true" });
  const tell = () => {
    const value = values[slide.value];
    shown.textContent = ` ${value}`;
    slide.setAttribute("aria-valuetext", value);
  };
  slide.addEventListener("input", tell);
  return {
    get: () => values[slide.value],
    set: (value) => {
      slide.value = values.indexOf(value);
      tell();
    },
  };
};

// The figure opens with an answer, and the page says how far off it was.
const ask = (output, [question, answer, least, most]) => {
  const form = document.createElement("form");
  form.className = "figure-guess";
  output.prepend(form);
  output.classList.add("guess-first");
  const numbers = Array.from({ length: most - least + 1 }, (_, i) => `${least + i}`);
  const guess = control(form, question, numbers);
  guess.set(numbers[numbers.length >> 1]);
  add(form, "button", "Show the measurement");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const off = Math.abs(guess.get() - parseFloat(answer)).toFixed(1);
    form.textContent = "";
    add(form, "p", `${question} You said ${guess.get()}. Measured: ${answer}. Your guess was ${off} off.`, {
      tabindex: "-1",
    }).focus();
    output.classList.remove("guess-first");
  });
};

for (const box of document.querySelectorAll(".figure-points")) {
  const given = JSON.parse(box.querySelector("script").textContent);
  const [titles, ...texts] = [...box.querySelectorAll("tr")].map((row) => [...row.children].map((e) => e.textContent));
  const split = given.start.length;
  const rows = texts.map((text, i) => ({ names: text.slice(0, split), said: text.slice(split), at: given.framed[i] }));
  // The figure stands in the cell before; a pocket page may have a figure of the full edition in between.
  let cell = box.closest(".cell");
  do cell = cell.previousElementSibling;
  while (!cell.querySelector(".cell_output img"));
  const output = cell.querySelector(".cell_output");
  output.append(box);
  const picture = output.querySelector("img");
  const frame = document.createElement("span");
  frame.className = "figure-frame";
  picture.replaceWith(frame);
  frame.append(picture);

  const fields = document.createElement("fieldset");
  box.prepend(fields);
  add(fields, "legend", "Choose a point");
  const distinct = (level) => [...new Set(rows.map((row) => row.names[level]))];
  const controls = given.start.map((_, level) => control(fields, titles[level], distinct(level)));
  const rival = control(fields, "compared with", distinct(0));
  const spoken = add(fields, "div", "", { "aria-live": "polite" });
  const marks = [add(frame, "span"), add(frame, "span")];
  const lines = [add(spoken, "p"), add(spoken, "p")];

  const show = () => {
    const [who, ...where] = controls.map((each) => each.get());
    [who, rival.get()].forEach((name, i) => {
      const found = rows.find((row) => row.names.join() === [name, ...where].join());
      const place = where.map((value, level) => `${titles[level + 1]} ${value}`).join(", ");
      const [value, ...rest] = (found?.said ?? []).map((text, j) => `${titles[split + j]} ${text}`);
      lines[i].textContent = `${name}, ${place}: ${found ? `${value} (${rest.join(", ")})` : "nothing measured"}`;
      marks[i].hidden = !found;
      marks[i].style.outlineOffset = found?.at[2] ? "-1px" : ""; // a field, which has an edge; else a line or a dot
      ["left", "top", "width", "height"].forEach((side, j) => (marks[i].style[side] = `${found?.at[j]}%`));
    });
  };
  const set = (names) => controls.forEach((each, level) => each.set(names[level]));

  rival.set(given.rival);
  set(given.start);
  show();
  fields.addEventListener("input", show);
  // A finger on the picture takes the point that is next to it.
  frame.addEventListener("click", ({ clientX, clientY }) => {
    const size = frame.getBoundingClientRect();
    const away = ({ at: [left, top, width, height] }) =>
      Math.hypot(
        clientX - size.left - ((left + width / 2) * size.width) / 100,
        clientY - size.top - ((top + height / 2) * size.height) / 100,
      );
    set(rows.reduce((a, b) => (away(b) < away(a) ? b : a)).names);
    show();
  });
  if (given.guess) ask(output, given.guess);
}
