"use strict";

// Messages and answers are inserted with textContent, never as HTML.

const messages = document.getElementById("messages");
const form = document.getElementById("form");
const question = document.getElementById("question");
const temperature = document.getElementById("temperature");
const heatmap = document.getElementById("heatmap");
const unsure = document.getElementById("unsure");
const suggestions = [...document.querySelectorAll("#suggestions button")];
const ideas = [
  "What is npdl?", "Tell me a joke", "How do I save my model?", "I am tired today",
  "Is it faster than PyTorch?", "How do I plot the loss?", "What is early stopping?", "Who are you?",
  "How do I write my own layer?", "What can you do?", "Can I use PyTorch weights?", "My dog is ill",
  "What are keys?", "What is on the heat map?", "My run crashed", "Will AI take my job?",
];
let turn = 0;
let shown = 0;

function element(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function show(text, className, speaker) {
  const message = element("p", "", className);
  message.append(element("span", `${speaker}: `, "hidden"), text);
  messages.append(message);
  messages.scrollTop = messages.scrollHeight;
  return message;
}

async function ask(text) {
  const response = await fetch("/reply", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ question: text, temperature: Number(temperature.value), turn: turn++ }),
  });
  const reply = await response.json();
  if (!response.ok) throw new Error(reply.error);
  return reply;
}

async function send(text) {
  show(text || "…", "you", "You");
  const waiting = show("…", "bot waiting", "Pico");
  try {
    const reply = await ask(text);
    show(reply.answer, "bot", "Pico");
    draw(reply);
    suggest();
  } catch (error) {
    show(`No answer came: ${error.message}`, "error", "Error");
  }
  waiting.remove();
  messages.scrollTop = messages.scrollHeight;
}

// A row for each word of the answer, a column for each word of the question.
function draw({ answer_words, question_words, known, weights, sure }) {
  unsure.hidden = sure;
  const head = document.createElement("tr");
  head.append(document.createElement("td"));
  question_words.forEach((word, i) => {
    const cell = element("th", "", known[i] ? "" : "unknown");
    cell.scope = "col";
    cell.title = known[i] ? word : `${word} (unknown to the model)`;
    cell.append(element("span", word));
    head.append(cell);
  });
  const rows = answer_words.map((word, i) => {
    const row = document.createElement("tr");
    const name = element("th", word);
    name.scope = "row";
    row.append(name);
    weights[i].forEach((weight, j) => {
      const percent = `${Math.round(100 * weight)} %`;
      const cell = document.createElement("td");
      cell.title = `${word} → ${question_words[j]}: ${percent}`;
      const shade = element("span", "", "shade");
      shade.style.opacity = weight;
      cell.append(shade, element("span", percent, "hidden"));
      row.append(cell);
    });
    return row;
  });
  const header = document.createElement("thead");
  header.append(head);
  const body = document.createElement("tbody");
  body.append(...rows);
  heatmap.replaceChildren(header, body);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send(question.value.trim());
  question.value = "";
  question.focus();
});

// The buttons stay and get new texts, so the keyboard focus stays on them.
function suggest() {
  for (const button of suggestions) button.textContent = ideas[shown++ % ideas.length];
}

for (const button of suggestions) {
  button.addEventListener("click", () => send(button.textContent));
}

suggest();
show("Hello, I am Pico. Ask me how I am, or how npdl works.", "bot", "Pico");
