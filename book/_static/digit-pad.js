// The box to draw a digit in. A page holds <div class="digit-pad" data-ours="FOLDER" data-article="FOLDER"
// data-digits="FILE" data-cut="LAYER">; without data-article there is one model. Nothing is fetched before the
// reader comes near the box.

import { load, size, toImage } from "./digit-model.js";

const STEP = 1 / 28; // how far an arrow key moves the pen, in shares of the box
const BELOW = [1, 115, 178], ABOVE = [222, 143, 5]; // blue and orange of the book's palette
const GAP = 2; // pixels between two maps

const HINT = "Draw a digit with a finger, a pen or the mouse; or with the arrow keys, once the space bar has set the pen down.";

const LAYOUT = `
  <div class="digit-pad__draw">
    <canvas class="digit-pad__paper" width="560" height="560" tabindex="0" role="application"
      aria-label="Box to draw a digit in. By keyboard: arrow keys move the pen, the space bar sets it down and lifts it."></canvas>
    <p>
      <button type="button" class="digit-pad__clear">Clear</button>
      <button type="button" class="digit-pad__undo">Undo</button>
      <button type="button" class="digit-pad__take">Take a test digit</button>
    </p>
  </div>
  <div class="digit-pad__answer">
    <p class="digit-pad__says">${HINT}</p>
    <p class="digit-pad__heard visually-hidden" role="status"></p>
    <table>
      <thead><tr><th scope="col">digit</th><th scope="col">ours</th><th scope="col" hidden>the article's</th></tr></thead>
      <tbody></tbody>
    </table>
    <p><button type="button" class="digit-pad__article" hidden></button></p>
  </div>
  <div class="digit-pad__inside" hidden>
    <figure><canvas class="digit-pad__given" role="img"></canvas><figcaption>what the model gets</figcaption></figure>
    <figure><canvas class="digit-pad__maps" role="img"></canvas><figcaption></figcaption></figure>
  </div>`;

class Pad {
  strokes = []; // arrays of points [x, y], in shares of the box
  taken = null; // a test digit in place of strokes: { image, label }
  pen = null; // the keyboard's: { at: [x, y], down }
  pointer = null; // which finger, pen or mouse draws; others do not
  ours = null;
  article = null;

  constructor(box) {
    this.box = box;
    box.innerHTML = LAYOUT;
    for (const name of ["paper", "says", "heard", "inside", "given", "maps", "clear", "undo", "take", "article"]) {
      this[`$${name}`] = box.querySelector(`.digit-pad__${name}`);
    }
    this.rows = Array.from({ length: 10 }, (_, digit) => {
      const row = box.querySelector("tbody").insertRow();
      row.innerHTML = `<th scope="row">${digit}</th><td><span></span></td><td hidden><span></span></td>`;
      return row;
    });
    this.$maps.nextElementSibling.textContent =
      `what the frozen part makes of it, after ${box.dataset.cut}: blue below zero, orange above`;
    this.$clear.onclick = () => this.clear();
    this.$undo.onclick = () => this.undo();
    this.$take.onclick = () => this.attempt(() => this.take());
    this.$article.onclick = () => this.attempt(() => this.askArticle());
    for (const sign of ["pointerenter", "focusin"]) box.addEventListener(sign, () => this.attempt(() => this.begin()));
    this.$paper.onpointerdown = (event) => this.touch(event);
    this.$paper.onpointermove = (event) => this.move(event);
    this.$paper.onlostpointercapture = (event) => this.lift(event);
    this.$paper.onkeydown = (event) => this.key(event);
    // Colours follow the page's theme.
    new MutationObserver(() => this.show()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this.show();
  }

  /** Do something that fetches; say it on the page where it fails. */
  async attempt(action) {
    try {
      await action();
    } catch (error) {
      if (!this.ours) this.begun = null; // the next try fetches again
      this.say(`That did not work: ${error.message}.` +
        (location.protocol === "file:" ? " A page opened as a file can't fetch; serve the book: make serve."
          : this.ours ? "" : " Draw on to try again."));
    }
  }

  /** Show a text; those who hear it hear it when the pen is up, not at each step. */
  say(text) {
    this.$says.textContent = text;
    if (this.pointer === null && !this.pen?.down) this.$heard.textContent = text;
  }

  /** Fetch our model, once. */
  begin() {
    this.begun ??= (async () => {
      const { ours, article } = this.box.dataset;
      this.ours = await load(ours);
      if (article) {
        this.$article.textContent = `Ask the article's model, too (${(await size(article) / 1e6).toFixed(1)} MB)`;
        this.$article.hidden = this.article !== null;
      }
      this.show();
    })();
    return this.begun;
  }

  async askArticle() {
    if (this.$article.ariaDisabled) return;
    this.$article.ariaDisabled = "true"; // truly disabled, it would lose the focus
    this.say("Fetching the article's model …");
    try {
      this.article = await load(this.box.dataset.article);
    } finally {
      this.$article.ariaDisabled = null;
    }
    for (const cell of this.box.querySelectorAll("tr > :last-child")) cell.hidden = false;
    const focused = document.activeElement === this.$article;
    this.$article.hidden = true;
    if (focused) this.$paper.focus({ preventScroll: true });
    this.show();
  }

  async take() {
    await this.begin();
    if (!this.digits) {
      const { digits } = this.box.dataset;
      const answer = await fetch(digits);
      if (!answer.ok) throw new Error(`${digits}: expected the file, got HTTP ${answer.status}`);
      this.digits = await answer.json();
      this.next = 0;
    }
    this.strokes = [];
    this.pen = null;
    this.taken = this.digits[this.next++ % this.digits.length];
    this.show();
  }

  touch(event) {
    if (event.button !== 0 || this.pointer !== null) return;
    event.preventDefault();
    this.$paper.focus({ preventScroll: true });
    this.$paper.setPointerCapture(event.pointerId);
    this.pen = null;
    this.pointer = event.pointerId;
    this.start(this.place(event));
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const each of passed.length ? passed : [event]) this.strokes.at(-1).push(this.place(each));
    this.soon();
  }

  place(event) {
    const frame = this.$paper.getBoundingClientRect();
    const share = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    return share.map(within); // what lies outside is not seen, so the model must not see it
  }

  /** The stroke has ended. */
  lift(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.soon();
  }

  key(event) {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key !== " " && !(event.key in moves)) return;
    event.preventDefault();
    this.pen ??= { at: [0.5, 0.3], down: false };
    if (event.key === " ") {
      this.pen.down = !this.pen.down;
      if (this.pen.down) this.start(this.pen.at);
    } else {
      this.pen.at = this.pen.at.map((value, axis) => within(value + moves[event.key][axis]));
      if (this.pen.down) this.strokes.at(-1).push(this.pen.at);
    }
    this.soon();
  }

  start(point) {
    this.taken = null;
    this.strokes.push([point]);
    this.attempt(() => this.begin()); // again, if it failed before
    this.soon();
  }

  clear() {
    this.strokes = [];
    this.taken = this.pen = this.pointer = null;
    this.show();
  }

  undo() {
    this.taken = this.pointer = null;
    if (this.pen) this.pen.down = false;
    this.strokes.pop();
    this.show();
  }

  /** Show at the screen's next frame, however many points come before it. */
  soon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.show();
    });
  }

  show() {
    this.drawPaper();
    const empty = !this.taken && this.strokes.length === 0;
    if (!this.ours) {
      if (this.begun && !empty) this.say("Fetching the model …");
      return;
    }
    this.$inside.hidden = empty;
    const image = this.taken ? this.taken.image.flat() : toImage(this.strokes, this.ours.input);
    const began = performance.now();
    const ours = this.ours.run(image);
    const ms = performance.now() - began;
    const article = this.article?.run(image);
    this.rows.forEach((row, digit) => {
      bar(row.cells[1], empty ? 0 : ours[digit], digit === best(ours));
      if (article) bar(row.cells[2], empty ? 0 : article[digit], digit === best(article));
    });
    this.say(empty ? HINT : [
      this.taken ? `A test digit, labelled ${this.taken.label}.` : "",
      `Ours reads ${best(ours)} (${percent(ours)}), in ${ms.toFixed(0)} ms.`,
      article ? `The article's reads ${best(article)} (${percent(article)}).` : "",
    ].join(" ").trim());
    const [height, width] = this.ours.input;
    drawValues(this.$given, Array.from(image, (value) => [value, value, value]), width, height);
    this.$given.ariaLabel = `The image that the model gets, ${height} by ${width} pixels`;
    this.drawMaps();
  }

  drawPaper() {
    const paper = this.$paper.getContext("2d"), side = this.$paper.width;
    const style = getComputedStyle(this.$paper);
    paper.clearRect(0, 0, side, side);
    paper.strokeStyle = paper.fillStyle = style.color;
    paper.lineWidth = side / 12;
    paper.lineCap = paper.lineJoin = "round";
    for (const stroke of this.strokes) {
      paper.beginPath();
      paper.moveTo(stroke[0][0] * side, stroke[0][1] * side);
      for (const [x, y] of stroke) paper.lineTo(x * side, y * side);
      paper.stroke();
      // A tap has no length, and a line without length is not drawn.
      paper.beginPath();
      paper.arc(stroke[0][0] * side, stroke[0][1] * side, side / 24, 0, 7);
      paper.fill();
    }
    this.taken?.image.forEach((row, y) => row.forEach((value, x) => {
      const cell = side / row.length;
      paper.globalAlpha = value / 255;
      paper.fillRect(x * cell, y * cell, cell + 0.5, cell + 0.5);
    }));
    paper.globalAlpha = 1;
    if (this.pen) {
      paper.strokeStyle = `rgb(${this.pen.down ? ABOVE : BELOW})`;
      paper.lineWidth = side / 70;
      paper.beginPath();
      paper.arc(this.pen.at[0] * side, this.pen.at[1] * side, side / 28, 0, 7);
      paper.stroke();
    }
  }

  drawMaps() {
    const { shape: [height, width, channels], values } = this.ours.seen(this.box.dataset.cut);
    const most = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
    const columns = Math.min(channels, 8), rows = Math.ceil(channels / columns);
    const wide = columns * (width + GAP) - GAP, tall = rows * (height + GAP) - GAP;
    const pixels = Array(wide * tall).fill(null);
    values.forEach((value, i) => {
      const map = i % channels, at = (i - map) / channels;
      const x = map % columns * (width + GAP) + at % width;
      const y = Math.floor(map / columns) * (height + GAP) + Math.floor(at / width);
      const share = Math.abs(value) / most;
      pixels[y * wide + x] = (value < 0 ? BELOW : ABOVE).map((colour) => 255 + share * (colour - 255));
    });
    drawValues(this.$maps, pixels, wide, tall);
    this.$maps.ariaLabel = `${channels} maps of ${height} by ${width}, one for each feature of the frozen part`;
  }
}

function bar(cell, share, first) {
  const bar = cell.firstElementChild;
  bar.style.width = `${100 * share}%`;
  bar.textContent = share ? `${(100 * share).toFixed(0)} %` : "";
  cell.classList.toggle("digit-pad__first", first && share > 0);
}

function drawValues(canvas, colours, width, height) {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  colours.forEach((colour, i) => colour && pixels.data.set([...colour, 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

const within = (share) => Math.min(Math.max(share, 0), 1);
const best = (probabilities) => probabilities.indexOf(Math.max(...probabilities));
const percent = (probabilities) => `${(100 * Math.max(...probabilities)).toFixed(0)} %`;

for (const box of document.querySelectorAll(".digit-pad")) new Pad(box);
