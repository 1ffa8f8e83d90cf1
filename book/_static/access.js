// Faults of the theme that a reader without mouse or sight meets, and that its templates cannot mend.

// The theme takes the focus off a button that was pressed, so that its hint goes; with it goes the reader's place,
// also when the dialog that the button opened is closed again.
for (const button of document.querySelectorAll("button[data-bs-toggle=tooltip]")) {
  button.blur = () => window.bootstrap.Tooltip.getInstance(button)?.hide();
  // A finger that closes the dialog brings the focus back, but did not ask for the hint.
  button.addEventListener("show.bs.tooltip", (event) => {
    if (!button.matches(":hover, :focus-visible")) event.preventDefault();
  });
}

// A button that calls a function of the page says which: an onclick would be a script in the page itself.
for (const button of document.querySelectorAll("[data-calls]")) {
  button.addEventListener("click", () => window[button.dataset.calls]());
}

// Icons are letters of a font, which a screen reader would try to say.
for (const icon of document.querySelectorAll(":is(i, span)[class*=' fa-'], :is(i, span)[class^='fa']")) {
  icon.setAttribute("aria-hidden", "true");
}

// Paper is white: a page in the dark theme would print pale letters, and charts as black blocks.
// And it can't be clicked: solutions and data cards are open on it.
(() => {
  const page = document.documentElement.dataset;
  let before, closed;
  window.addEventListener("beforeprint", () => {
    before ??= page.theme;
    page.theme = "light";
    closed ??= [...document.querySelectorAll("details:not([open])")];
    for (const box of closed) box.open = true;
  });
  window.addEventListener("afterprint", () => {
    page.theme = before ?? page.theme;
    for (const box of closed ?? []) box.open = false;
    before = closed = undefined;
  });
})();

// A box whose content is wider than itself can be reached with Tab, scrolled with the arrows, and has a name.
// The theme makes some of them a Tab stop, but without a name; which ones scroll depends on the window's width.
(() => {
  const BOXES =
    ".bd-article :is(pre, .cell_output, .output, .pst-scrollable-table-container, div.math, math, figure, dt)";

  const mark = () => {
    let number = 0;
    for (const box of document.querySelectorAll(BOXES)) {
      const scrolls =
        // The theme's own condition, so that what it makes a stop has a name.
        (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) &&
        ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
      if (scrolls) {
        number += 1;
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", `Wide content ${number}, scrolls`);
        box.dataset.scrolls = "";
      } else if ("scrolls" in box.dataset) {
        for (const name of ["tabindex", "role", "aria-label", "data-scrolls"]) box.removeAttribute(name);
      }
    }
  };

  let timer;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(mark, 300);
  };
  window.addEventListener("load", mark);
  window.addEventListener("resize", later);
  // A folded cell or solution that opens may hold a wide box.
  document.addEventListener("toggle", later, true);
})();
