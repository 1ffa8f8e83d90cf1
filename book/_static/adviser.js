// The freezing adviser: shows the controls and looks answers up. All answers, borders and messages are
// tlhelpers' own (tlhelpers/studies/adviser.py); no rule is written here a second time.

for (const adviser of document.querySelectorAll(".freezing-adviser")) {
  const given = JSON.parse(adviser.querySelector("script").textContent);
  const fields = [...adviser.querySelectorAll("input, select")];
  const advice = adviser.querySelector(".advice");
  // Messages speak of arguments; on the page these are fields, with words of their own.
  const words = Object.fromEntries(fields.map((f) => [f.name, f.closest("label").firstChild.textContent.trim()]));
  let shown;

  const fill = (message, values) => message.replace(/\{(\w+)\}/g, (_, name) => values[name]);

  // What is wrong with the numbers, as [field, message]; undefined if nothing is.
  const fault = (texts, numbers) => {
    for (const [name, text] of Object.entries(texts)) {
      if (!/^[-+]?\d+$/.test(text)) {
        const isNumber = text && Number.isFinite(Number(text));
        return [name, fill(given.whole, { name, got: isNumber ? text : `'${text}'` })];
      }
    }
    for (const [name, least, message] of given.least) {
      if (numbers[name] < (numbers[least] ?? least)) return [name, fill(message, numbers)];
    }
  };

  const add = (parent, tag, text, name) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (name) element.className = name;
    return parent.appendChild(element);
  };

  const answer = () => {
    const { similarity, ...texts } = Object.fromEntries(fields.map((f) => [f.name, f.value.trim()]));
    const numbers = Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, Number(text)]));
    const [wrong, message] = fault(texts, numbers) ?? [];
    for (const field of fields) {
      for (const [attribute, value] of [["aria-invalid", "true"], ["aria-describedby", "adviser-fault"]]) {
        if (field.name === wrong) field.setAttribute(attribute, value);
        else field.removeAttribute(attribute);
      }
    }
    const perClass = numbers.n_examples / numbers.n_classes;
    const found = message ?? given.answers.find((a) =>
      a.similarity === similarity && a.from <= perClass && (a.to === null || perClass < a.to));
    // A screen reader speaks of what changed only.
    if (found === shown) return;
    shown = found;
    advice.replaceChildren();
    if (message) {
      add(advice, "p", message.replace(`${wrong}:`, `${words[wrong]}:`), "fault").id = "adviser-fault";
      return;
    }
    add(advice, "p", found.strategy, "strategy");
    const list = add(advice, "dl");
    for (const [title, ...texts] of [
      // At 0 nothing trains, so nothing is said of it.
      ...(found.learning_rate ? [["Learning rate", `${found.learning_rate}, for Adam, to begin with`]] : []),
      ["Why", found.why],
      ["Measured by following it", ...found.measured, given.stamp],
    ]) {
      add(list, "dt", title);
      for (const text of texts) add(list, "dd", text);
    }
  };

  adviser.addEventListener("input", answer);
  adviser.querySelector("fieldset").hidden = false;
  answer();
}
